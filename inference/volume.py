"""Arrays that never part from their geometry.

``Volume`` is highdicom's class. In this project its array is always ``(slices, rows, columns)``
and its affine maps such an index (the center of a voxel) to patient coordinates in mm, LPS
(x to the patient's left, y to posterior, z to head; PS3.3 C.7.6.2.1.1).
"""

from highdicom import Volume

__all__ = ["Volume"]
