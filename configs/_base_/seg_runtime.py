# Settings of all segmentation configs: hooks, logging, visualization.
default_scope = "mmseg"
env_cfg = dict(
    cudnn_benchmark=False,  # it would search for algorithms again for each new image size
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    checkpoint=dict(
        type="gfnet_dense.CheckpointHook",
        by_epoch=False,
        interval=8000,
        max_keep_ckpts=2,
        save_best="mIoU",
    ),
    visualization=dict(type="SegVisualizationHook"),
)
custom_hooks = [
    dict(type="gfnet_dense.CheckDataHook"),
    dict(type="gfnet_dense.FiniteLossHook"),
    dict(type="gfnet_dense.CufftPlanCacheHook", max_size=128),  # 8 plans x 16 shapes of images
]
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="SegLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(by_epoch=False)
log_level = "INFO"
load_from = None
resume = False
tta_model = dict(type="SegTTAModel")
