"""CNN14 that classifies every segment of a clip before it pools over time, for sound event detection.

Not in the paper's tables: the authors' code has the classes and their released weights. A segment is 32 frames,
0.32 s, the product of the poolings over time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.models.base import Output, output_of
from pannslib.models.cnn import Cnn


def logit_of_mean(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """The logit of the mean over time of the probabilities, exact also where those round to 0 or 1.

    Args:
        logits: (batch, segments, classes).
        weights: the same shape, adding up to 1 over the segments; equal ones where left out.

    Returns:
        (batch, classes).
    """
    present, absent = F.logsigmoid(logits), F.logsigmoid(-logits)
    if weights is not None:
        present, absent = present + weights.log(), absent + weights.log()
    return present.logsumexp(dim=1) - absent.logsumexp(dim=1)


class AttentionBlock(nn.Module):
    """Classifies segments (``cla``) and weighs them for each class (``att``)."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.att = nn.Conv1d(inputs, classes, 1)
        self.cla = nn.Conv1d(inputs, classes, 1)
        self.bn_att = nn.BatchNorm1d(classes)  # in the released weights; their network doesn't use it

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, inputs, segments) -> logits and weights, each (batch, segments, classes)."""
        weights = self.att(x).float().clamp(-10, 10).softmax(dim=2)
        return self.cla(x).transpose(1, 2), weights.transpose(1, 2)


class CnnDecisionLevel(Cnn):
    """CNN14 whose clipwise output pools the segments' probabilities by ``pooling``: "max", "avg" or "att".

    The embedding is the mean of the segments' (the authors' classes return none).
    """

    classifies_frames = True

    def __init__(self, settings, pooling: str, **options):
        self.pooling = pooling
        if pooling == "att":
            self.classifier = "att_block"
            self.unused_parameters = ("att_block.bn_att",)
        super().__init__(settings, **options)

    def add_head(self, channels: int, embedding_size: int) -> None:
        if self.pooling != "att":
            return super().add_head(channels, embedding_size)
        self.embedding_size = embedding_size
        self.fc1 = nn.Linear(channels, embedding_size)
        self.att_block = AttentionBlock(embedding_size, self.classes)

    def network(self, x: Tensor) -> Output:
        frames = x.shape[2]
        x = self.body(x).mean(dim=3)  # (batch, channels, segments)
        x = F.max_pool1d(x, 3, stride=1, padding=1) + F.avg_pool1d(x, 3, stride=1, padding=1)
        x = self.dropout(x, self.pooled_dropout).transpose(1, 2)
        embeddings = F.relu_(self.fc1(x))  # (batch, segments, embedding_size)
        x = self.dropout(embeddings, 0.5)
        if self.pooling == "att":
            segments, weights = self.att_block(x.transpose(1, 2))
            segments = segments.float()  # (batch, segments, classes)
            clip = logit_of_mean(segments, weights)
        else:
            segments = self.fc_audioset(x).float()
            clip = segments.max(dim=1).values if self.pooling == "max" else logit_of_mean(segments)
        return output_of(clip, embeddings.mean(dim=1), self.framewise(segments.sigmoid(), frames))

    def framewise(self, segmentwise: Tensor, frames: int) -> Tensor:
        """(batch, segments, classes) -> (batch, frames, classes): every frame of a segment has its probability.

        Frames after the last whole segment have the last one's.
        """
        segment = torch.arange(frames, device=segmentwise.device) // self.least_frames
        return segmentwise[:, segment.clamp(max=segmentwise.shape[1] - 1)]
