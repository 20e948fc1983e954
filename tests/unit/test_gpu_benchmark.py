"""The benchmark for GPUs: its parts at a tiny size on the CPU, models, graphs on a double of CUDA, table."""

import contextlib

import pytest
import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import timing
from benchmarks.gpu.graphs import BucketedUNet, GraphedUNet
from benchmarks.gpu.precision import Artifacts, Drift, exact_float32
from benchmarks.gpu.shapes import SHAPES, ShapedModel
from benchmarks.gpu.table import Row, Table
from benchmarks.gpu.timing import Deadline, unless_out_of_memory

CPU = torch.device("cpu")
SCALE = program.Scale(samples=(1, 2), few_samples=(2,), jobs=(1, 2), steps=3, seeds=1)


@pytest.fixture
def quick(monkeypatch):
    """One shape, and few calls for each time."""
    monkeypatch.setattr(timing, "WARM_UP", 1)
    monkeypatch.setattr(timing, "CALLS", 1)
    shapes = {"SD 1.5": SHAPES["SD 1.5"]}
    monkeypatch.setattr(program, "SHAPES", shapes)


def measured(part: str, deadline: float = 100) -> list[Row]:
    table = Table(CPU)
    program.run(table, SCALE, Deadline(deadline), tiny=True, only=part)
    return table.rows


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("passes", ["1 sample", "2 samples", "fitted line", "2 samples"]),
        ("precision", ["float16, 1 edit", "bfloat16, 1 edit"] * 3),
        ("vae", ["float32", "float16", "bfloat16"]),
        ("graphs", ["1 sample", "2 samples"]),
        ("attention", ["flash, 2 samples", "memory-efficient, 2 samples", "cuDNN, 2 samples", "math, 2 samples"]),
    ],
)
@pytest.mark.usefixtures("quick")
def test_each_part_runs_at_a_tiny_size(part, settings):
    rows = measured(part)
    assert [row.setting for row in rows] == settings
    assert not any("failed" in row.result or "memory" in row.result for row in rows)


@pytest.mark.usefixtures("quick")
def test_compiled_passes_have_fixed_shapes(monkeypatch):
    """The compiler itself is left out, since it takes ten seconds."""
    options = []
    monkeypatch.setattr(torch, "compile", lambda unet, **given: options.append(given) or unet)
    assert [row.setting for row in measured("compile")] == ["2 samples"]
    assert options == [{"dynamic": False, "backend": "eager"}]


@pytest.mark.usefixtures("quick")
def test_edits_are_compared_with_diffusers_and_with_one_job(monkeypatch):
    monkeypatch.setattr(program, "SETTINGS", program.SETTINGS[::3])
    rows = measured("edits")
    assert [row.setting for row in rows] == [
        "diffusers' pipeline in a loop, its defaults",
        *(f"{settings.name}, {jobs}" for settings in program.SETTINGS for jobs in ("1 job", "2 jobs")),
    ]
    assert all(float(row.result.split()[0]) > 0 for row in rows)
    assert [row.ratio.count("of diffusers") for row in rows] == [0] + [1] * (len(rows) - 1)
    assert [row.ratio.count("of one job") for row in rows] == [0, 0, 1, 0, 1]


@pytest.mark.usefixtures("quick")
def test_a_part_that_fails_does_not_end_the_run(monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")
        yield

    monkeypatch.setattr(program, "pass_rows", fail)
    rows = measured("passes")
    assert [(row.measurement, row.result.split(":")[0]) for row in rows[:2]] == [
        ("passes", "failed"),
        ("a shallow pass", rows[1].result),
    ]


@pytest.mark.usefixtures("quick")
def test_nothing_begins_after_the_time_limit(capsys):
    assert measured("vae", deadline=0) == []
    assert "the time limit" in capsys.readouterr().out


def test_the_file_is_written_after_each_row(tmp_path):
    table = Table(CPU, tmp_path / "gpu.md")
    for number in range(2):
        table.add(Row("SD 1.5", "a pass", f"{number} samples", "1 ms", "1.00"))
        assert table.out.read_text().splitlines()[-1] == f"| SD 1.5 | a pass | {number} samples | 1 ms | 1.00 |"
    assert table.out.read_text() == table.markdown()


@pytest.mark.parametrize(("name", "millions"), [("SD 1.5", 860), ("SD 2.1", 866), ("SDXL", 2565)])
def test_the_models_have_the_sizes_of_stable_diffusion(name, millions):
    """SDXL has 2567 million; the two layers of its further condition, 2.8 million, are left out."""
    model = ShapedModel(SHAPES[name], torch.device("meta"), torch.float32)
    count = sum(parameter.numel() for parameter in model.unet.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=3)
    assert sum(parameter.numel() for parameter in model.vae.parameters()) / 1e6 == pytest.approx(83.65, abs=0.1)
    assert model.shape.cell == 8


@pytest.mark.parametrize("name", list(SHAPES))
def test_tiny_models_keep_the_structure(name):
    shape = SHAPES[name].tiny()
    tiny, full = ShapedModel(shape, CPU, torch.float32), SHAPES[name]
    assert len(tiny.unet.down_blocks) == len(full.unet.get("block_out_channels", range(4)))
    x, t, cond = tiny.inputs(2)
    assert x.shape == (2, 4, 8, 8)
    assert t[0] != t[1]
    assert tiny.unet(x, t, encoder_hidden_states=cond, return_dict=False)[0].shape == x.shape


def test_a_model_in_another_number_type_has_the_same_weights():
    model = ShapedModel(SHAPES["SD 1.5"].tiny(), CPU, torch.float32)
    half = model.with_dtypes(torch.float16)
    assert half.vae is model.vae
    ours, theirs = (next(each.unet.parameters()) for each in (model, half))
    assert torch.equal(ours.half(), theirs)


def test_samples_are_padded_to_the_next_size():
    seen = []

    def unet(x, t, encoder_hidden_states, return_dict):
        seen.append((len(x), len(t), len(encoder_hidden_states)))
        return (x + t[:, None] + encoder_hidden_states,)

    padded = BucketedUNet(unet, [4, 1, 2])
    x, t, cond = torch.arange(6.0).view(3, 2), torch.arange(3), torch.ones(3, 2)
    assert torch.equal(padded(x, t, encoder_hidden_states=cond)[0], x + t[:, None] + cond)
    assert torch.equal(padded(x[:2], t[:2], encoder_hidden_states=cond[:2])[0], (x + t[:, None] + cond)[:2])
    assert seen == [(4, 4, 4), (2, 2, 2)]
    with pytest.raises(ValueError, match="more than 4"):
        padded(torch.zeros(5, 2), torch.zeros(5), encoder_hidden_states=torch.zeros(5, 2))


def test_a_graph_replays_its_own_inputs(monkeypatch):
    """On a double of CUDA: a captured call writes to the same memory again, from what its inputs then hold."""
    captured, captures = [], []

    class Graph:
        def replay(self):
            for output, inputs in captured[self.number]:
                output.copy_(inputs[0] + inputs[1][:, None] + inputs[2])

        def pool(self):
            return "pool"

    @contextlib.contextmanager
    def capture(graph, pool):
        graph.number = len(captured)
        captured.append([])
        captures.append(pool)
        yield

    stream = type("Stream", (), {"wait_stream": lambda self, other: None})
    doubles = {
        "CUDAGraph": Graph,
        "graph": capture,
        "Stream": stream,
        "current_stream": stream,
        "stream": lambda _: contextlib.nullcontext(),
    }
    for name, double in doubles.items():
        monkeypatch.setattr(torch.cuda, name, double)

    def unet(x, t, encoder_hidden_states, return_dict):
        output = x + t[:, None] + encoder_hidden_states
        if captured:
            captured[-1].append((output, (x, t, encoder_hidden_states)))
        return (output,)

    graphed = BucketedUNet(GraphedUNet(unet), [1, 2])
    results = []
    for n in (1, 2, 1, 2):
        x, t, cond = torch.randn(n, 3), torch.arange(n), torch.randn(n, 3)
        (result,) = graphed(x, t, encoder_hidden_states=cond)
        results.append((result, x + t[:, None] + cond))
    # Compared at the end: a later replay must not change an earlier result.
    assert all(torch.equal(result, expected) for result, expected in results)
    assert captures == [None, "pool"]


def test_drift_is_relative_to_the_reference():
    reference = Artifacts(torch.tensor([True, False]), torch.tensor([3.0, 4.0]), torch.tensor([0.0, 100.0]))
    assert Drift.between(reference, reference) == Drift(0, 0, 0, 0)
    other = Artifacts(torch.tensor([True, True]), torch.tensor([3.0, 4.5]), torch.tensor([3.0, 100.0]))
    assert Drift.between(reference, other) == Drift(0.5, pytest.approx(0.1), 3, 1.5)


def test_exact_float32_is_undone():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with exact_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


def test_a_lack_of_memory_is_a_result_and_other_errors_are_not():
    def run(error):
        raise error

    assert unless_out_of_memory(lambda: run(torch.OutOfMemoryError())) is None
    assert unless_out_of_memory(lambda: 1.5) == 1.5
    with pytest.raises(KeyError):
        unless_out_of_memory(lambda: run(KeyError()))
