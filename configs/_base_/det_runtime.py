# What every detection config shares: hooks, logging, visualisation.
default_scope = "mmdet"
env_cfg = dict(
    cudnn_benchmark=False,  # images of many sizes: it would search again for each
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
    dict(type="gfnet_dense.CufftPlanCacheHook", max_size=128),  # the last 16 shapes of batches
]
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(by_epoch=True)
log_level = "INFO"
load_from = None
resume = False
