"""The networks trained on AudioSet, the paper's and one for sound events: what each changes, which rows it makes.

All start from one base, CNN14 as the profile sets it (balanced sampling, mixup on the log-mel, all clips, 32 kHz,
64 mel bins, a hop of 10 ms). A run that several tables share is here once: the base stands in each of Tables V to XI.
"""

from dataclasses import dataclass, field

BASE = "train_cnn14"


@dataclass(frozen=True)
class TrainingRun:
    """One network trained on AudioSet.

    Attributes:
        title: how it is called in tables.
        changes: what differs from the base, laid over its settings (`catalogue.TrainingSettings`).
    """

    title: str
    changes: dict = field(default_factory=dict)


NO_MIXUP = {"optimisation": {"mixup": False}}
UNIFORM = {"sampling": "uniform"}
SMALL_SET = {"training_set": "balanced"}  # AudioSet's balanced part, 20,550 clips of the authors' copy


def _architecture(title: str, name: str) -> TrainingRun:
    return TrainingRun(title, {"architecture": name})


def _front_end(title: str, **changes: int) -> TrainingRun:
    return TrainingRun(title, {"front_end": changes})


RUNS = {
    BASE: TrainingRun("CNN14"),
    # Table V and Figure 4 b: balancing and mixup
    "train_cnn14_small_nobal_nomixup": TrainingRun("no-bal, no-mixup (20k)", SMALL_SET | UNIFORM | NO_MIXUP),
    "train_cnn14_small_bal_nomixup": TrainingRun("bal, no-mixup (20k)", SMALL_SET | NO_MIXUP),
    "train_cnn14_small_bal_mixup": TrainingRun("bal, mixup (20k)", SMALL_SET),
    "train_cnn14_nobal_nomixup": TrainingRun("no-bal, no-mixup (1.9m)", UNIFORM | NO_MIXUP),
    "train_cnn14_bal_nomixup": TrainingRun("bal, no-mixup (1.9m)", NO_MIXUP),
    "train_cnn14_mixup_wav": _architecture("bal, mixup-wav (1.9m)", "Cnn14_mixup_time_domain"),
    # Table VI: hop of the log-mel, samples at 32 kHz
    "train_cnn14_hop1000": _front_end("CNN14, hop 1000", hop=1000),
    "train_cnn14_hop640": _front_end("CNN14, hop 640", hop=640),
    "train_cnn14_hop500": _front_end("CNN14, hop 500", hop=500),
    # Table VII and Figure 4 c: size of the embedding
    "train_cnn14_emb32": _architecture("CNN14, embedding 32", "Cnn14_emb32"),
    "train_cnn14_emb128": _architecture("CNN14, embedding 128", "Cnn14_emb128"),
    "train_cnn14_emb512": _architecture("CNN14, embedding 512", "Cnn14_emb512"),
    # Table VIII and Figure 4 d: part of the training data
    "train_cnn14_half": TrainingRun("CNN14, 50 % of the clips", {"share": 0.5}),
    "train_cnn14_four_fifths": TrainingRun("CNN14, 80 % of the clips", {"share": 0.8}),
    # Table IX and Figure 4 e: sample rate
    "train_cnn14_8k": _architecture("CNN14, 8 kHz", "Cnn14_8k"),
    "train_cnn14_16k": _architecture("CNN14, 16 kHz", "Cnn14_16k"),
    # Table X and Figure 4 f: mel bins
    "train_cnn14_mel32": _architecture("CNN14, 32 mel bins", "Cnn14_mel32"),
    "train_cnn14_mel128": _architecture("CNN14, 128 mel bins", "Cnn14_mel128"),
    # Table XI and Figure 4 a: architectures
    "train_cnn6": _architecture("CNN6", "Cnn6"),
    "train_cnn10": _architecture("CNN10", "Cnn10"),
    "train_resnet22": _architecture("ResNet22", "ResNet22"),
    "train_resnet38": _architecture("ResNet38", "ResNet38"),
    "train_resnet54": _architecture("ResNet54", "ResNet54"),
    "train_mobilenetv1": _architecture("MobileNetV1", "MobileNetV1"),
    "train_mobilenetv2": _architecture("MobileNetV2", "MobileNetV2"),
    "train_dainet19": _architecture("DaiNet", "DaiNet19"),
    "train_leenet11": _architecture("LeeNet11", "LeeNet11"),
    "train_leenet24": _architecture("LeeNet24", "LeeNet24"),
    "train_res1dnet31": _architecture("Res1dNet31", "Res1dNet31"),
    "train_res1dnet51": _architecture("Res1dNet51", "Res1dNet51"),
    "train_wavegram_cnn14": _architecture("Wavegram-CNN", "Wavegram_Cnn14"),
    "train_wavegram_logmel_cnn14": _architecture("Wavegram-Logmel-CNN", "Wavegram_Logmel_Cnn14"),
    # beyond the paper's tables: the authors' network for sound events
    "train_cnn14_decision_level": _architecture("CNN14, decision level, max", "Cnn14_DecisionLevelMax"),
}
EVENTS = "train_cnn14_decision_level"  # the run that sound events are found with

# the run behind each row of the paper's tables, in the order of `reference.table`
PAPER_ROWS = {
    5: [
        "train_cnn14_small_nobal_nomixup",
        "train_cnn14_small_bal_nomixup",
        "train_cnn14_small_bal_mixup",
        "train_cnn14_nobal_nomixup",
        "train_cnn14_bal_nomixup",
        BASE,
        "train_cnn14_mixup_wav",
    ],
    6: ["train_cnn14_hop1000", "train_cnn14_hop640", "train_cnn14_hop500", BASE],
    7: ["train_cnn14_emb32", "train_cnn14_emb128", "train_cnn14_emb512", BASE],
    8: ["train_cnn14_half", "train_cnn14_four_fifths", BASE],
    9: ["train_cnn14_8k", "train_cnn14_16k", BASE],
    10: ["train_cnn14_mel32", BASE, "train_cnn14_mel128"],
    11: [
        "train_cnn6",
        "train_cnn10",
        BASE,
        "train_resnet22",
        "train_resnet38",
        "train_resnet54",
        "train_mobilenetv1",
        "train_mobilenetv2",
        "train_dainet19",
        "train_leenet11",
        "train_leenet24",
        "train_res1dnet31",
        "train_res1dnet51",
        "train_wavegram_cnn14",
        "train_wavegram_logmel_cnn14",
    ],
}

# the run behind each pair of curves of Figure 4, by panel and series as in fig_04_series.csv
FIGURE_4 = {
    ("a", "wavegram_logmel_cnn"): "train_wavegram_logmel_cnn14",
    ("a", "cnn14"): BASE,
    ("a", "mobilenetv1"): "train_mobilenetv1",
    ("b", "bal_mixup_1.9m"): BASE,
    ("b", "bal_mixup_wav_1.9m"): "train_cnn14_mixup_wav",
    ("b", "bal_nomixup_1.9m"): "train_cnn14_bal_nomixup",
    ("b", "nobal_nomixup_1.9m"): "train_cnn14_nobal_nomixup",
    ("b", "bal_mixup_20k"): "train_cnn14_small_bal_mixup",
    ("b", "bal_nomixup_20k"): "train_cnn14_small_bal_nomixup",
    ("c", "emb_2048"): BASE,
    ("c", "emb_128"): "train_cnn14_emb128",
    ("c", "emb_32"): "train_cnn14_emb32",
    ("d", "train_100"): BASE,
    ("d", "train_80"): "train_cnn14_four_fifths",
    ("d", "train_50"): "train_cnn14_half",
    ("e", "sr_32k"): BASE,
    ("e", "sr_16k"): "train_cnn14_16k",
    ("e", "sr_8k"): "train_cnn14_8k",
    ("f", "mel_128"): "train_cnn14_mel128",
    ("f", "mel_64"): BASE,
    ("f", "mel_32"): "train_cnn14_mel32",
}
