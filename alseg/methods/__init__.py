"""The methods, by name: one folder per paper. `README.md` says how to add one."""

from alseg.registry import Registry

METHODS = Registry(
    "method",
    {
        "badge": "alseg.methods.baselines.method:Badge",
        "bald": "alseg.methods.baselines.method:Bald",
        "bvsb": "alseg.methods.baselines.method:BvSB",
        "coreset": "alseg.methods.baselines.method:CoreSet",
        "entropy": "alseg.methods.baselines.method:Entropy",
        "least_confidence": "alseg.methods.baselines.method:LeastConfidence",
        "margin": "alseg.methods.baselines.method:Margin",
        "mulquery": "alseg.methods.mulquery.method:MulQuery",
        "pixelpick": "alseg.methods.baselines.method:PixelPick",
        "random": "alseg.methods.baselines.method:Random",
        "spread": "alseg.methods.baselines.method:Spread",
        "stratified": "alseg.methods.baselines.method:Stratified",
        "supervised": "alseg.methods.supervised.method:Supervised",
        "vote_entropy": "alseg.methods.baselines.method:VoteEntropy",
    },
)
