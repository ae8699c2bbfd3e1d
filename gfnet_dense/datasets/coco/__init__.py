"""COCO files: reading, completing and checking them."""
