"""Two commands in turns."""

import pytest

from codir_jax.benchmark.compare import compare, read_rate
from codir_jax.processes.user_error import UserError


def test_pairs_take_turns_and_the_ratio_is_ours_over_theirs():
    order, rates = [], iter([8.0, 4.0, 5.0, 20.0, 9.0, 3.0])

    def run(command):
        order.append(command)
        return f'noise\n{{"sentences_per_second": {next(rates)}}}\n'

    result = compare(["ours"], "theirs", 3, run=run, say=lambda _: None)
    assert order == [["ours"], "theirs", "theirs", ["ours"], ["ours"], "theirs"]
    assert [pair["ratio"] for pair in result["pairs"]] == [2.0, 4.0, 3.0]
    assert result["ratio"] == {"median": 3.0, "min": 2.0, "max": 4.0}


@pytest.mark.parametrize(
    ("output", "rate"),
    [
        ('{"sentences_per_second": 3}', 3.0),
        ('{"sentences_per_second": 1}\n{"sent_per_s_median": 2, "sentences_per_second": 9}\nbye\n', 2.0),
        ('{"sentences_per_second_median": 5.5, "sentences_per_second": 9}', 5.5),
    ],
)
def test_the_rate_is_read_from_the_last_line_of_json(output, rate):
    assert read_rate(output, "ours") == rate


def test_a_command_without_a_rate_or_that_fails_is_told():
    with pytest.raises(ValueError, match="theirs must print a last line"):
        read_rate("42\n[1]\nhello", "theirs")
    with pytest.raises(ValueError, match="status 3"):
        compare("exit 3", "true", 1)


@pytest.mark.parametrize(("status", "is_of_user"), [(1, False), (2, True)])
def test_a_fault_of_our_own_command_is_not_told_as_bad_input(status, is_of_user):
    with pytest.raises((UserError, RuntimeError), match=f"status {status}") as caught:
        compare(["sh", "-c", f"exit {status}"], "true", 1)
    assert isinstance(caught.value, UserError) is is_of_user


def test_real_children_are_run():
    result = compare("echo '{\"sentences_per_second\": 6}'", "echo '{\"sent_per_s_median\": 2}'", 1, say=lambda _: None)
    assert result["ratio"]["median"] == 3.0
