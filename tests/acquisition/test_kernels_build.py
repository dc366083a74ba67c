"""Kernels are built for GPUs that are not there, down to their machine code."""

import importlib

import pytest

NAME = "alseg.acquisition.kernels"
#: Types of arguments by name; constants are written in capitals, other numbers are 32 bits wide.
TYPES = {
    **dict.fromkeys(("entropy", "confidence", "margin", "bvsb", "scored"), "*fp32"),
    **dict.fromkeys(("sums", "counts", "shares"), "*i64"),
    **dict.fromkeys(("inverse_temperature", "log_zero", "scale"), "fp32"),
    **{"top1": "*u8", "broken": "i64"},
}
MAPS = {"ENTROPY": True, "CONFIDENCE": True, "MARGIN": True, "BVSB": True, "TOP1": True}
SUMS = {"COLUMNS": 32, "ROWS": 16, "BLOCK": 128}
#: Module, function, constants.
KERNELS = {
    "maps": ("maps", "_maps", {**MAPS, "BLOCK": 256}),
    "mulquery": ("sums", "_sums", {**SUMS, "SCORE": "bvsb", "BY_CLASS": True, "SHARES": True}),
    "entropy": ("sums", "_sums", {**SUMS, "SCORE": "entropy", "BY_CLASS": False, "SHARES": False}),
    "bald": ("opinions", "_committee", {"SCORE": "bald", "OPINIONS": 16, "BLOCK": 64}),
    "votes": ("opinions", "_committee", {"SCORE": "vote_entropy", "OPINIONS": 256, "BLOCK": 8}),
}
#: Numbers that are 1 are built in, as Triton does it by itself.
SMALLEST = ("h", "w", "canvas_h", "canvas_w", "height", "width", "num_regions", "opinions")


def build(name, capability, logits, ids, aligned, smallest=False):
    """Machine code."""
    triton = pytest.importorskip("triton")
    compiler = pytest.importorskip("triton.backends.compiler")
    module, function, constants = KERNELS[name]
    kernel = getattr(importlib.import_module(f"{NAME}.{module}"), function)
    constants = {**constants, "ALIGNED": aligned}
    if module == "opinions":
        constants["SUMMED"] = name == "bald"
    if smallest:
        constants |= dict.fromkeys(set(SMALLEST) & set(kernel.arg_names), 1)
    types = {**TYPES, "logits": logits, "grids": logits, "regions": ids}
    types |= dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    built = triton.compile(source, target=compiler.GPUTarget("cuda", capability, 32))
    return built.asm["cubin"]


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("capability", "logits", "ids", "aligned"),
    [(75, "*fp16", "*u8", False), (80, "*fp32", "*i32", True), (90, "*bf16", "*i64", False)],
)
def test_machine_code(name, capability, logits, ids, aligned):
    assert build(name, capability, logits, ids, aligned)[:4] == b"\x7fELF"


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("aligned", [False, True])
def test_machine_code_for_an_image_of_one_pixel(name, aligned):
    assert build(name, 80, "*fp32", "*i64", aligned, smallest=True)[:4] == b"\x7fELF"
