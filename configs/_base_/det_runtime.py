# Settings of all detection configs: hooks, logging, visualization.
default_scope = "mmdet"
env_cfg = dict(
    cudnn_benchmark=False,  # it would search for algorithms again for each new image size
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    checkpoint=dict(
        type="gfnet_dense.CheckpointHook", interval=1, max_keep_ckpts=2, save_best="coco/bbox_mAP"
    ),
    visualization=dict(type="DetVisualizationHook"),
)
custom_hooks = [
    dict(type="gfnet_dense.CheckDataHook"),
    dict(type="gfnet_dense.FiniteLossHook"),
    dict(type="gfnet_dense.CufftPlanCacheHook", max_size=128),  # 8 plans x 16 batch shapes
]
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(by_epoch=True)
log_level = "INFO"
load_from = None
resume = False
