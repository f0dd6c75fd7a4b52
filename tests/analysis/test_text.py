"""Tables of text fit a terminal, whatever is in them."""

from lmsa_bench.analysis.text import WIDTH, aligned


def test_a_narrow_table_is_as_it_is():
    assert aligned([["method", "a task"], ["full", "39.9 ± 11.1"]]) == [
        "method  a task     ",
        "------  -----------",
        "full    39.9 ± 11.1",
    ]


def test_long_cells_are_broken_after_commas_and_never_within_a_number():
    names = ", ".join(f"method_{i} {i}.0 ± 1.5" for i in range(12))
    lines = aligned([["task", "best group", "behind"], ["digits_c", names, names]])
    assert max(map(len, lines)) <= WIDTH
    assert [word for line in lines for word in line.split() if word == "±"] == ["±"] * 24
    assert all(line.count("method") == line.count("±") for line in lines[2:])


def test_many_columns_follow_each_other_with_the_first_ones():
    table = [["task", "variant", *(f"method_{i}" for i in range(25))], ["c", "fog", *(f"{i}.5" for i in range(25))]]
    lines = aligned(table, keys=2)
    assert max(map(len, lines)) <= WIDTH
    heads, values = (" ".join(lines[at::4]).split() for at in (0, 2))
    assert [head for head in heads if head.startswith("method")] == table[0][2:]
    assert [value for value in values if value[0].isdigit()] == table[1][2:]
    assert heads.count("variant") == values.count("fog") == 3
