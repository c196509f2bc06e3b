"""Adaptive computation: who halts when, who takes which data, what the continue value should have been."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.act import ActCarry, ActOutput, Batch, act_step, draw_least, initial_act_carry
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM

CFG = ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, H_cycles=1, L_cycles=1, seq_len=9, puzzle_emb_ndim=16)
POSITIONS = torch.arange(9)


def make(q_halt: float, q_continue: float, cfg: ModelConfig = CFG) -> tuple[HRM, TaskEmbedding]:
    """A model whose Q values are these constants whatever it sees."""
    model = HRM(cfg, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.q_bias.copy_(torch.tensor([q_halt, q_continue]))
    return model, TaskEmbedding(cfg, 50)


def batch(first_id: int, size: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(first_id)
    tokens = torch.randint(0, 12, (size, 9), generator=generator)
    return Batch(tokens, tokens.roll(1, 1), torch.arange(first_id, first_id + size), torch.zeros(size, dtype=torch.int64))


def run(
    model: HRM, embedding: TaskEmbedding, carry: ActCarry, data: Batch, training: bool = True, **options: object
) -> tuple[ActCarry, ActOutput]:
    return act_step(model, embedding, carry, data, POSITIONS, training=training, **{"max_steps": 5, **options})  # type: ignore[arg-type]


def steps_until_halted(exploration: float, size: int, q_halt: float = 1.0, seed: int = 0, max_steps: int = 5) -> list[int]:
    model, embedding = make(q_halt, 0.0)
    generator = torch.Generator().manual_seed(seed)
    data = replace(batch(0, size), ids=torch.zeros(size, dtype=torch.int64))
    carry, halted_at = initial_act_carry(model, data), [0] * size
    for segment in range(1, max_steps + 1):
        least = draw_least(size, max_steps, exploration, generator)
        carry, _ = run(model, embedding, carry, data, least=least, max_steps=max_steps)
        for i in range(size):
            if carry.halted[i] and not halted_at[i]:
                halted_at[i] = segment
    return halted_at


def test_training_halts_where_halting_is_worth_more() -> None:
    assert steps_until_halted(0.0, 3, q_halt=1.0) == [1, 1, 1]
    assert steps_until_halted(0.0, 3, q_halt=-1.0) == [5, 5, 5]


def test_equal_values_go_on() -> None:
    assert steps_until_halted(0.0, 2, q_halt=0.0) == [5, 5]


@pytest.mark.parametrize("q_continue", [-9.0, 9.0])
def test_without_a_continue_target_its_value_decides_nothing(q_continue: float) -> None:
    data = batch(0)
    for q_halt, halts in ((-4.0, False), (0.0, False), (0.5, True)):
        model, embedding = make(q_halt, q_continue, replace(CFG, continue_target=False))
        carry, _ = run(model, embedding, initial_act_carry(model, data), data)
        assert carry.halted.tolist() == [halts] * 4, (q_halt, q_continue)


def test_evaluation_always_runs_to_the_last_step() -> None:
    model, embedding = make(9.0, -9.0)
    data = batch(0)
    carry = initial_act_carry(model, data)
    for segment in range(1, 6):
        carry, output = run(model, embedding, carry, data, training=False)
        assert carry.halted.tolist() == [segment == 5] * 4 and carry.steps.tolist() == [segment] * 4
        assert output.target_q_continue is None and not output.logits.requires_grad


def test_exploration_keeps_its_share_of_sequences_for_2_to_most_segments() -> None:
    halted_at = steps_until_halted(0.4, 2000)
    counts = torch.bincount(torch.tensor(halted_at), minlength=6)
    assert counts[1] / 2000 == pytest.approx(0.6, abs=0.03)
    # the least number is drawn anew at each segment: of those left, 0.4 * 3/4 are held at segment 2, 0.4 * 2/4 at 3, 0.4 / 4 at 4
    left = 2000 - int(counts[1])
    for segment, held in ((2, 0.3), (3, 0.2), (4, 0.1)):
        assert 1 - counts[segment] / left == pytest.approx(held, abs=0.06)
        left -= int(counts[segment])
        if left < 60:
            break


def test_exploration_follows_its_generator() -> None:
    assert steps_until_halted(0.5, 40, seed=1) == steps_until_halted(0.5, 40, seed=1)
    assert steps_until_halted(0.5, 40, seed=1) != steps_until_halted(0.5, 40, seed=2)


def test_only_halted_sequences_take_new_data_and_start_anew() -> None:
    model, embedding = make(-1.0, 0.0)
    embedding.rows.normal_(generator=torch.Generator().manual_seed(3))
    first, second = batch(0), batch(10)
    carry, _ = run(model, embedding, initial_act_carry(model, first), first)
    carry = replace(carry, halted=torch.tensor([True, False, False, True]))
    kept, output = run(model, embedding, carry, second)
    assert kept.data.ids.tolist() == [10, 1, 2, 13] and kept.steps.tolist() == [1, 2, 2, 1]
    for field in ("inputs", "labels"):
        new, old, got = (getattr(b, field) for b in (second, first, kept.data))
        assert torch.equal(got, torch.stack([new[0], old[1], old[2], new[3]]))
    fresh, fresh_output = run(model, embedding, initial_act_carry(model, second), second)
    going, going_output = run(model, embedding, replace(carry, halted=torch.zeros(4, dtype=torch.bool)), first)
    expected = torch.stack([fresh_output.logits[0], going_output.logits[1], going_output.logits[2], fresh_output.logits[3]])
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(kept.inner.z_H[1:3], going.inner.z_H[1:3])
    torch.testing.assert_close(kept.inner.z_L[0], fresh.inner.z_L[0])


def test_a_continuing_sequence_sees_its_row_as_it_is_by_then() -> None:
    model, embedding = make(-1.0, 0.0)
    data = batch(0)
    carry, before = run(model, embedding, initial_act_carry(model, data), data)
    embedding.reset_rows(torch.tensor([2]), torch.ones(16))
    _, output = run(model, embedding, carry, data)
    assert before.looked_up is not None and output.looked_up is not None
    assert before.looked_up.rows[2].tolist() == [0] * 16 and output.looked_up.rows[2].tolist() == [1] * 16


def test_gradients_reach_the_looked_up_rows_and_the_carry_has_no_history() -> None:
    model, embedding = make(0.0, 0.0)
    data = batch(0)
    carry, output = run(model, embedding, initial_act_carry(model, data), data)
    output.logits[1].square().sum().backward()  # type: ignore[no-untyped-call]
    assert output.looked_up is not None and output.looked_up.rows.grad is not None
    assert output.looked_up.ids.tolist() == [0, 1, 2, 3]
    assert [bool(row.any()) for row in output.looked_up.rows.grad] == [False, True, False, False]
    assert carry.inner.z_H.grad_fn is None


def test_the_target_is_the_best_value_of_the_next_segment_and_at_the_last_the_halt_value() -> None:
    model, embedding = make(0.0, 0.0)
    with torch.no_grad():
        model.q_weight.normal_(generator=torch.Generator().manual_seed(4))
    data = batch(0)
    carry, output = run(model, embedding, initial_act_carry(model, data), data, max_steps=2)
    # evaluation with the same weights computes the next segment independently
    _, following = run(model, embedding, replace(carry, halted=torch.zeros(4, dtype=torch.bool)), data, training=False)
    best = torch.maximum(following.q_halt, following.q_continue)
    assert output.target_q_continue is not None and not output.target_q_continue.requires_grad
    torch.testing.assert_close(output.target_q_continue, torch.sigmoid(best))
    assert (following.q_halt < following.q_continue).any()
    carry, last = run(model, embedding, replace(carry, halted=torch.zeros(4, dtype=torch.bool)), data, max_steps=2)
    _, after = run(model, embedding, replace(carry, halted=torch.zeros(4, dtype=torch.bool)), data, training=False)
    assert last.target_q_continue is not None
    torch.testing.assert_close(last.target_q_continue, torch.sigmoid(after.q_halt))


def test_no_target_where_none_is_asked_for() -> None:
    data = batch(0)
    for cfg, max_steps in ((replace(CFG, continue_target=False), 5), (CFG, 1)):
        model, embedding = make(0.0, 0.0, cfg)
        carry, output = run(model, embedding, initial_act_carry(model, data), data, max_steps=max_steps)
        assert output.target_q_continue is None
        assert carry.halted.tolist() == [max_steps == 1] * 4


def test_a_model_without_task_embedding() -> None:
    model, embedding = make(0.0, 0.0, replace(CFG, puzzle_emb_ndim=0))
    data = batch(0)
    _, output = run(model, embedding, initial_act_carry(model, data), data)
    assert output.looked_up is None and output.logits.shape == (4, 9, 12)
