"""Data sets of other programs as label maps of mmsegmentation or as COCO files.

A reader finds out what a folder holds and returns a :class:`.model.Source`: images with objects, or
with a label map, in the words of no format. The steps after it know no format either::

    formats.read_source      labelme  cvat  voc  yolo  via  coco_files  masks
    classes.choose_classes   which classes, in which order
    images.check_places      whether pictures are taken from unlikely folders
    images.fit_images        pictures of the labeled size, objects inside of them
    splitting.set_splits     training and validation, where the source has none
    to_coco.plan_coco, to_masks.plan_masks   the files of the result

:mod:`.convert` runs them. Problems of all files are collected, and nothing is written if there is
one. A thing that the result cannot hold is left out, counted and told with its first file.

Polygons become pixels by the rule of pycocotools (``rleFrPoly`` in
https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c), in label maps as well: it is
the rule by which mmdetection makes masks for a training, and a polygon with corners on the edges of
pixels holds exactly the pixels inside. Pillow, which labelme uses, paints the pixels under the
outline, too: about half a pixel more on all sides.
"""
