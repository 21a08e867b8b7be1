import pytest

from terracausal.simulate import simulate_landscape


@pytest.fixture(scope="session")
def landscape():
    """15 km × 15 km: a town, villages, a river wider than a pixel."""
    return simulate_landscape(512, random_state=0)
