"""The layers of a case in a viewer, and what a person does to them. No other package touches ``viewer.layers``.

World coordinates are the patient's, in mm, in DICOM's directions: z to the head, y to the back, x to the left
hand. So axial slices are drawn as radiologists read them; coronal and sagittal ones once the camera's up is the
head. An oblique volume is shown along its own axes; its true affine travels in the layers' metadata.
"""

from napari_vqseg.layers.geometry import direction_letters, layer_geometry, volume_beneath, volume_of
from napari_vqseg.layers.navigation import Plane
from napari_vqseg.layers.pointer import Pointed
from napari_vqseg.layers.stage import warm_up
from napari_vqseg.layers.viewer_layers import ViewerLayers

__all__ = [
    "Plane", "Pointed", "ViewerLayers", "direction_letters", "layer_geometry", "volume_beneath", "volume_of", "warm_up",
]  # fmt: skip
