"""The methods, by name: one folder per paper. `README.md` says how to add one."""

from alseg.core.registry import Registry

METHODS = Registry(
    "method",
    {
        "adaptive_superpixel": "alseg.methods.adaptive_superpixel.method:AdaptiveSuperpixel",
        "als4gan": "alseg.methods.als4gan.method:Als4gan",
        "badge": "alseg.methods.baselines.diversity:Badge",
        "bald": "alseg.methods.baselines.uncertainty:Bald",
        "bvsb": "alseg.methods.baselines.uncertainty:BvSB",
        "classbal": "alseg.methods.baselines.uncertainty:ClassBal",
        "coreset": "alseg.methods.baselines.diversity:CoreSet",
        "entropy": "alseg.methods.baselines.uncertainty:Entropy",
        "equal": "alseg.methods.equal.method:Equal",
        "least_confidence": "alseg.methods.baselines.uncertainty:LeastConfidence",
        "madbal": "alseg.methods.madbal.method:Madbal",
        "margin": "alseg.methods.baselines.uncertainty:Margin",
        "mulquery": "alseg.methods.mulquery.method:MulQuery",
        "oracle_error": "alseg.methods.baselines.uncertainty:OracleError",
        "pixelpick": "alseg.methods.baselines.pixelpick:PixelPick",
        "random": "alseg.methods.baselines.random:Random",
        "spread": "alseg.methods.baselines.diversity:Spread",
        "stratified": "alseg.methods.baselines.diversity:Stratified",
        "supervised": "alseg.methods.supervised.method:Supervised",
        "vote_entropy": "alseg.methods.baselines.uncertainty:VoteEntropy",
    },
)
