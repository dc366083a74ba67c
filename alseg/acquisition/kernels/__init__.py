"""The kernels behind `alseg.acquisition.fused`: everything about a pixel in one pass on a GPU.

Imported only where Triton is; with ``TRITON_INTERPRET=1`` they run on tensors of the CPU, slowly.
Only Triton's built-in operators are used, which its interpreter knows wherever it is switched on.
"""

from alseg.acquisition.kernels.maps import score_maps
from alseg.acquisition.kernels.opinions import committee
from alseg.acquisition.kernels.sums import BROKEN, SCALE, score_sums

__all__ = ["BROKEN", "SCALE", "committee", "score_maps", "score_sums"]
