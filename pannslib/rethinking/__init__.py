"""*Rethinking CNN Models for Audio Classification*: do ImageNet's networks do as well as the PANNs?

Palanisamy, Singhania and Yao 2020, arXiv:2007.11154. The networks are in `models.imagenet`; here are the experiments
and analyses of that paper, on the folds that the PANNs are tested on::

    study = rethinking.Study(plan)
    study.run()                                   # trains what isn't there yet
    study.scores()                                # mean and spread over the runs, and the ensemble
    study.blocks()                                # freeze, cut or fuse at each block
    study.change()                                # SVCCA of every layer before and after fine-tuning
    study.attributions()                          # Integrated Gradients on the log-mel

`svcca`, `integrated_gradients` and `augment` take any arrays and networks.
"""

from pannslib.rethinking.attribution import Attribution, integrated_gradients
from pannslib.rethinking.augmentation import augment
from pannslib.rethinking.similarity import activations, change_of_layers, svcca
from pannslib.rethinking.study import Study, Variant
from pannslib.rethinking.weights import Start, missing, starts_of

__all__ = [
    "Attribution",
    "Start",
    "Study",
    "Variant",
    "activations",
    "augment",
    "change_of_layers",
    "integrated_gradients",
    "missing",
    "starts_of",
    "svcca",
]
