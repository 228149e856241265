"""The training loop: that it learns, that it can be gone on with bit for bit, and that it says when it breaks."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from pannslib import catalogue, training
from pannslib.datasets.samplers import ShuffledSampler
from pannslib.errors import ProfileError, ResultError
from pannslib.profiles import Optimisation
from pannslib.training import devices, loop

SETTINGS = catalogue.plan("smoke").settings("transfer_esc50")
STEPS = Optimisation(iterations=12, batch_size=4, learning_rate=0.01)


class Problem:
    """Sixteen points in two classes, told apart by a small network with dropout."""

    def __init__(self, settings=SETTINGS):
        self.fabric = training.make_fabric(settings, seed=5)
        layers = [torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 2)]
        network = torch.nn.Sequential(*layers)
        generator = torch.Generator().manual_seed(1)
        self.points = torch.randn(16, 8, generator=generator)
        self.targets = torch.nn.functional.one_hot((self.points[:, 0] > 0).long(), 2).float()
        model, optimizer = training.set_up(self.fabric, network, STEPS)
        sampler = ShuffledSampler(np.arange(16), seed=3)
        self.state = training.State(model, optimizer, sampler, np.random.default_rng(4))

    def batch(self, indices):
        return {"input": self.points[torch.from_numpy(indices)]}

    def fit(self, optimisation=STEPS, **options):
        loss = training.classification_loss
        names = [f"clip {number}" for number in range(16)]
        training.fit(self.fabric, self.state, self.batch, self.targets, optimisation, loss, names, **options)

    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.state.model.parameters()])

    def loss(self):
        self.state.model.eval()
        return training.classification_loss(self.state.model(self.points), self.targets).item()


def test_the_loss_falls():
    problem = Problem()
    before = problem.loss()
    problem.fit(STEPS.model_copy(update={"iterations": 60}))
    assert problem.loss() < 0.5 * before


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = Problem()
    whole.fit()

    stopped = Problem()

    def save_then_stop(state):
        state.save(tmp_path / "state.pt")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.fit(evaluate=save_then_stop, evaluate_every=5)

    resumed = Problem()
    torch.manual_seed(99)  # whatever the generators were at
    resumed.state.restore(tmp_path / "state.pt")
    assert resumed.state.iteration == 5
    resumed.fit()
    assert torch.equal(resumed.weights(), whole.weights())


def test_a_damaged_checkpoint_is_named(tmp_path):
    problem = Problem()
    path = tmp_path / "state.pt"
    problem.state.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ResultError, match=r"state\.pt can't be gone on from"):
        problem.state.restore(path)


def test_a_loss_that_is_no_number_names_the_clips():
    problem = Problem()
    problem.points[3] = float("nan")
    with pytest.raises(ResultError, match="clip 3"):
        problem.fit(STEPS.model_copy(update={"batch_size": 16}))


def test_a_loss_that_is_no_number_names_the_iteration():
    problem = Problem()
    plain = problem.batch

    def spoiled(indices):
        if problem.state.iteration == 2:
            return {"input": plain(indices)["input"] * float("nan")}
        return plain(indices)

    problem.batch = spoiled
    clips = r"(clip \d+, ){3}clip \d+"
    with pytest.raises(ResultError, match=rf"The loss is nan at iteration 3\. The batch's clips are: {clips}\. Look"):
        problem.fit()


def test_the_bar_shows_the_loss_from_the_first_step():
    class Bar:
        shown: ClassVar[list] = []

        def update(self):
            pass

        def set_postfix(self, **values):
            self.shown.append(values)

    Problem().fit(bar=Bar())
    assert len(Bar.shown) == 11  # each of the first ten, and the last
    assert all(0 < float(values["loss"]) < 5 for values in Bar.shown)


@pytest.mark.parametrize("damage", ["a bit", "zeros", "another file", "no seal"])
def test_a_state_that_is_not_what_was_written_is_named(tmp_path, damage):
    problem = Problem()
    path = tmp_path / "state.pt"
    problem.state.save(path)
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    if damage == "a bit":
        content[half] ^= 1
    elif damage == "zeros":
        content[half : half + 500] = bytes(500)
    path.write_bytes(content[:-10] if damage == "no seal" else content)
    if damage == "another file":
        torch.save([1, 2], path)
        loop._seal(path)
    with pytest.raises(ResultError, match=r"state\.pt can't be gone on from: .*Delete it to train from the start"):
        problem.state.restore(path)


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training import Problem
problem, path = Problem(), Path(sys.argv[2])
problem.state.save(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    problem.state.save(path)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_disk_that_fills_up_is_told_and_the_state_before_is_kept(tmp_path):
    path = tmp_path / "state.pt"
    command = [sys.executable, "-c", FULL, str(Path(__file__).parent), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith(f"DataError: {path} could not be written: file too large")
    assert "what was written before is kept" in ended.stdout
    Problem().state.restore(path)
    assert list(tmp_path.iterdir()) == [path]


def test_evaluation_comes_in_time_and_at_the_end():
    problem, seen = Problem(), []
    problem.fit(evaluate=lambda state: seen.append(state.iteration), evaluate_every=5)
    assert seen == [5, 10, 12]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_to_be():
    with pytest.raises(ProfileError, match="finds no GPU"):
        training.make_fabric(SETTINGS.model_copy(update={"accelerator": "cuda"}), seed=1)


def test_bf16_trains_too():
    settings = SETTINGS.model_copy(update={"precision": "bf16-mixed"})
    problem = Problem(settings)
    before = problem.loss()
    problem.fit(STEPS.model_copy(update={"iterations": 60}))
    assert problem.loss() < 0.7 * before


def test_schedules():
    constant = STEPS
    cycle = STEPS.model_copy(update={"schedule": "one_cycle", "iterations": 100})
    assert {training.learning_rate(constant, i) for i in range(12)} == {0.01}
    rates = [training.learning_rate(cycle, i) for i in range(100)]
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) == pytest.approx(19, abs=1)
    assert 0 < rates[-1] < 1e-4


def test_losses_equal_their_formulas():
    class Output:
        logits = torch.tensor([[2.0, -1.0]])

    p = torch.sigmoid(Output.logits)
    expected = -(torch.log(p[0, 0]) + torch.log(1 - p[0, 1])) / 2
    assert training.tagging_loss(Output, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(expected.item(), abs=1e-6)
    soft = torch.tensor([[0.25, 0.75]])
    expected = -(soft * torch.log_softmax(Output.logits, 1)).sum()
    assert training.classification_loss(Output, soft).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_batch_in_parts_gives_the_gradient_of_the_whole():
    """Without dropout and batch norm, two halves of a batch and the batch itself lead to the same weights."""
    weights = []
    for parts in (1, 2):
        problem = Problem()
        problem.state.model.get_submodule("2").p = 0.0
        problem.fit(STEPS.model_copy(update={"accumulate": parts}))
        weights.append(problem.weights())
    assert torch.allclose(*weights, atol=1e-6)


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ProfileError, match="a multiple of 3"):
        devices.check_batch(STEPS.model_copy(update={"accumulate": 3}), "train_cnn14")


def test_the_loss_curve_has_a_point_every_ten_steps_and_at_the_end():
    problem, logged = Problem(), []
    problem.fit(STEPS.model_copy(update={"iterations": 25}), log=lambda iteration, numbers: logged.append(iteration))
    assert [row["iteration"] for row in problem.state.losses] == [10, 20, 25] == logged
    assert all(row["learning_rate"] == 0.01 for row in problem.state.losses)


def test_ctrl_c_finishes_the_step_and_writes_a_state_to_go_on_from(tmp_path):
    whole = Problem()
    whole.fit()
    stopped = Problem()
    plain = stopped.batch

    def interrupted(indices):
        if stopped.state.iteration == 7:
            signal.raise_signal(signal.SIGINT)
        return plain(indices)

    stopped.batch = interrupted
    with pytest.raises(training.Stopped, match="iteration 8 of 12"):
        stopped.fit(stop=lambda state: state.save(tmp_path / "state.pt"))
    resumed = Problem()
    resumed.state.restore(tmp_path / "state.pt")
    resumed.fit()
    assert torch.equal(resumed.weights(), whole.weights())


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    problem = Problem()
    problem.state.save(tmp_path / "state.pt")
    other = Problem()
    other.state.model.module.add_module("more", torch.nn.Linear(2, 2))
    with pytest.raises(ResultError, match=r"of another architecture \(more"):
        other.state.restore(tmp_path / "state.pt")


def test_verdicts():
    generator = np.random.default_rng(0)
    targets = generator.random((200, 5)) < 0.2
    losses = [{"loss": 0.7}, {"loss": 0.5}]
    assert training.judge(targets, 0.7, 0.72, losses) == ("trained", "")
    verdict, advice = training.judge(targets, 0.21, 0.22, losses)
    assert verdict == "at chance"
    assert "0.700 to 0.500" in advice
    assert "loss" not in training.judge(targets, 0.21, 0.22, [])[1]
    verdict, advice = training.judge(targets, 0.4, 0.41, losses)
    assert verdict == "hardly trained"
    assert f"{0.4 / targets.mean():.1f} times a guess" in advice
    verdict, advice = training.judge(targets, 0.2, 0.6, losses)
    assert verdict == "diverged"
    assert "learning rate" in advice
