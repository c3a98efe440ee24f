import torch

from diffusion_guidance.core.position import place, place_by_value


def test_a_timestep_is_found_by_where_it_lies():
    grid = torch.tensor([999, 500, 500, 1])
    assert [place(grid, timestep) for timestep in grid] == [0, 1, 2, 3]
    assert [place(grid, timestep) for timestep in grid[1:]] == [1, 2, 3]
    part = grid[1:3]
    assert [place(part, timestep) for timestep in grid] == [None, 0, 1, None]
    assert [place(grid[::2], timestep) for timestep in grid] == [0, None, 1, None]
    for other in (grid[0].clone(), grid.float()[0], 999):
        assert place(grid, other) is None


def test_a_timestep_is_found_by_its_value_from_the_expected_place_on():
    grid = [999.0, 500.0, 500.0, 1.0]
    assert [place_by_value(grid, 500, expected) for expected in range(5)] == [1, 1, 2, 1, 1]
    assert place_by_value(grid, torch.tensor([999.0]), 4) == 0
    assert place_by_value(grid, 7, 0) is None
