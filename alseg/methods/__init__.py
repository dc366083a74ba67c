"""The methods, by name: one folder per paper. `README.md` says how to add one."""

from alseg.registry import Registry

METHODS = Registry(
    "method",
    {
        "mulquery": "alseg.methods.mulquery.method:MulQuery",
        "supervised": "alseg.methods.supervised.method:Supervised",
    },
)
