"""Models of detectron2's zoo that resdet supports, as listed in detectron2's MODEL_ZOO.md (commit 02b5c4e)."""

from typing import NamedTuple

URL = "https://dl.fbaipublicfiles.com/detectron2"
LICENSE = "CC BY-SA 3.0"
COCO, VOC = "COCO val2017", "VOC 2007 test"


class Model(NamedTuple):
    run: str  # id in the URL
    md5: str  # first digits
    metrics: dict[str, float]  # in percent

    @property
    def file(self) -> str:
        return f"model_final_{self.md5}.pkl"


MODELS = {  # by config name
    "COCO-Detection/faster_rcnn_R_50_C4_1x": Model("137257644", "721ade", {"box AP": 35.7}),
    "COCO-Detection/faster_rcnn_R_50_DC5_1x": Model("137847829", "51d356", {"box AP": 37.3}),
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": Model("137257794", "b275ba", {"box AP": 37.9}),
    "COCO-Detection/faster_rcnn_R_50_C4_3x": Model("137849393", "f97cb7", {"box AP": 38.4}),
    "COCO-Detection/faster_rcnn_R_50_DC5_3x": Model("137849425", "68d202", {"box AP": 39.0}),
    "COCO-Detection/faster_rcnn_R_50_FPN_3x": Model("137849458", "280758", {"box AP": 40.2}),
    "COCO-Detection/faster_rcnn_R_101_C4_3x": Model("138204752", "298dad", {"box AP": 41.1}),
    "COCO-Detection/faster_rcnn_R_101_DC5_3x": Model("138204841", "3e0943", {"box AP": 40.6}),
    "COCO-Detection/faster_rcnn_R_101_FPN_3x": Model("137851257", "f6e8b1", {"box AP": 42.0}),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x": Model("137259246", "9243eb", {"box AP": 36.8, "mask AP": 32.2}),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x": Model("137260150", "4f86c3", {"box AP": 38.3, "mask AP": 34.2}),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": Model("137260431", "a54504", {"box AP": 38.6, "mask AP": 35.2}),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x": Model("137849525", "4ce675", {"box AP": 39.8, "mask AP": 34.4}),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x": Model("137849551", "84107b", {"box AP": 40.0, "mask AP": 35.9}),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": Model("137849600", "f10217", {"box AP": 41.0, "mask AP": 37.2}),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x": Model("138363239", "a2914c", {"box AP": 42.6, "mask AP": 36.7}),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x": Model("138363294", "0464b7", {"box AP": 41.9, "mask AP": 37.3}),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": Model("138205316", "a3ec72", {"box AP": 42.9, "mask AP": 38.6}),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x": Model("137261548", "04e291", {"box AP": 53.6, "keypoint AP": 64.0}),
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x": Model("137849621", "a6e10b", {"box AP": 55.4, "keypoint AP": 65.5}),
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x": Model("138363331", "997cc7", {"box AP": 56.4, "keypoint AP": 66.1}),
    "PascalVOC-Detection/faster_rcnn_R_50_C4": Model("142202221", "b1acc2", {"box AP": 51.9, "box AP50": 80.3}),
    "Misc/cascade_mask_rcnn_R_50_FPN_1x": Model("138602847", "e9d89b", {"box AP": 42.1, "mask AP": 36.4}),
    "Misc/cascade_mask_rcnn_R_50_FPN_3x": Model("144998488", "480dd8", {"box AP": 44.3, "mask AP": 38.5}),
    "Misc/mask_rcnn_R_50_FPN_3x_gn": Model("138602888", "dc5d9e", {"box AP": 42.6, "mask AP": 38.6}),
}
