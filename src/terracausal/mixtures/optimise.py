"""Modes of many weighted log densities at once: BFGS on a batch, polished by Newton's method."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Objective = Callable[[Tensor, Tensor], Tensor]
_SUFFICIENT = 1e-4
_HALVINGS = 25


class Summed:
    """An objective that is a sum, evaluated piece by piece so that memory is bounded.

    Parameters
    ----------
    pieces : callable
        Takes the number of points that are evaluated together; returns objectives to add up.
    """

    def __init__(self, pieces: Callable[[int], Iterable[Objective]]) -> None:
        self.pieces = pieces

    def __call__(self, points: Tensor, rows: Tensor) -> Tensor:
        """Return the values (m,) of points (m, n_parameters)."""
        return torch.stack([piece(points, rows) for piece in self.pieces(len(points))]).sum(dim=0)


def minimise(
    objective: Objective,
    start: Tensor,
    inverse_hessian: Tensor | None = None,
    *,
    tolerance: float = 1e-3,
    max_steps: int = 300,
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimise every row on its own, by BFGS with backtracking.

    Parameters
    ----------
    objective : callable
        Takes points of shape (m, n_parameters) and the rows (m,) that they belong to; returns
        values (m,).
    start : Tensor of shape (n_batch, n_parameters)
    inverse_hessian : Tensor of shape (n_parameters, n_parameters), default=None
        First guess of the curvature; None takes the identity.
    tolerance : float, default=1e-3
        A row is done when no derivative is larger.
    max_steps : int, default=300

    Returns
    -------
    points : Tensor of shape (n_batch, n_parameters)
    values : Tensor of shape (n_batch,)
    done : Tensor of bool of shape (n_batch,)
        Whether the tolerance was reached.
    """
    n_batch, n_parameters = start.shape
    guess = torch.eye(n_parameters, dtype=start.dtype)
    curvature = (guess if inverse_hessian is None else inverse_hessian).repeat(n_batch, 1, 1)
    points = start.clone()
    values, gradients = value_and_gradient(objective, points, torch.arange(n_batch))
    stuck = torch.zeros(n_batch, dtype=torch.bool)
    for _ in range(max_steps):
        active = torch.nonzero((gradients.abs().amax(1) > tolerance) & ~stuck)[:, 0]
        if not len(active):
            break
        x, f, g, h = points[active], values[active], gradients[active], curvature[active]
        move = -torch.einsum("bij,bj->bi", h, g)
        uphill = (move * g).sum(1) >= 0
        move[uphill] = -g[uphill] / g[uphill].norm(dim=1, keepdim=True)
        h[uphill] = guess
        # parameters are of order 1: no step may be larger
        move = move / move.abs().amax(1, keepdim=True).clamp(min=1.0)
        new_x, new_f, new_g, moved = _line_search(objective, (x, f, g), move, active)
        points[active], values[active], gradients[active] = new_x, new_f, new_g
        curvature[active] = _update(h, new_x - x, new_g - g)
        stuck[active[~moved]] = True
    return points, values, gradients.abs().amax(1) <= tolerance


def _line_search(
    objective: Objective, state: tuple[Tensor, Tensor, Tensor], move: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve the step of each row until its value falls enough; a row that cannot move stays."""
    x, f, g = state
    slope = (move * g).sum(1)
    new_x, new_f, new_g = x.clone(), f.clone(), g.clone()
    waiting = torch.arange(len(x))
    size = 1.0
    for _ in range(_HALVINGS):
        tried = x[waiting] + size * move[waiting]
        value, gradient = value_and_gradient(objective, tried, rows[waiting])
        good = value <= f[waiting] + _SUFFICIENT * size * slope[waiting]
        good &= torch.isfinite(gradient).all(1)
        hit = waiting[good]
        new_x[hit], new_f[hit], new_g[hit] = tried[good], value[good], gradient[good]
        waiting = waiting[~good]
        if not len(waiting):
            break
        size /= 2
    moved = torch.ones(len(x), dtype=torch.bool)
    moved[waiting] = False
    return new_x, new_f, new_g, moved


def _update(inverse: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """Return the BFGS update of inverse Hessians; rows without positive curvature keep theirs."""
    product = (s * y).sum(1)
    keep = product <= 1e-12 * s.norm(dim=1) * y.norm(dim=1)
    rho = 1 / torch.where(keep, torch.ones_like(product), product)
    hy = torch.einsum("bij,bj->bi", inverse, y)
    factor = (1 + rho * (y * hy).sum(1)) * rho
    cross = torch.einsum("bi,bj->bij", hy, s)
    new = (
        inverse
        + factor[:, None, None] * torch.einsum("bi,bj->bij", s, s)
        - rho[:, None, None] * (cross + cross.transpose(1, 2))
    )
    return torch.where(keep[:, None, None], inverse, new)


def value_and_gradient(objective: Objective, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return values (m,) and gradients (m, n_parameters) of a batch of points.

    Parameters
    ----------
    objective : callable
        As in `minimise`.
    points : Tensor of shape (m, n_parameters)
    rows : Tensor of shape (m,)

    Returns
    -------
    tuple of Tensor
    """
    value, gradient = points.new_zeros(len(points)), torch.zeros_like(points)
    for piece in _pieces(objective, len(points)):
        with torch.enable_grad():
            leaf = points.detach().requires_grad_(True)
            values = piece(leaf, rows)
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        value, gradient = value + values.detach(), gradient + slope
    return value, gradient


def _pieces(objective: Objective, n_rows: int) -> Iterable[Objective]:
    return objective.pieces(n_rows) if isinstance(objective, Summed) else [objective]


def hessian(objective: Objective, point: Tensor) -> Tensor:
    """Return the second derivatives at one point, (n_parameters, n_parameters).

    Parameters
    ----------
    objective : callable
        As in `minimise`.
    point : Tensor of shape (n_parameters,)

    Returns
    -------
    Tensor
    """
    rows = torch.zeros(1, dtype=torch.long)
    total = point.new_zeros((len(point), len(point)))
    for piece in _pieces(objective, len(point)):

        def single(x: Tensor, piece: Objective = piece) -> Tensor:
            return piece(x[None], rows)[0]

        total = total + torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
            single, point.detach(), vectorize=True
        )
    return (total + total.T) / 2


def polish(objective: Objective, point: Tensor, n_steps: int = 6) -> tuple[Tensor, Tensor]:
    """Take Newton steps near a minimum while these lower the gradient; return point and Hessian.

    Parameters
    ----------
    objective : callable
        As in `minimise`.
    point : Tensor of shape (n_parameters,)
    n_steps : int, default=6

    Returns
    -------
    tuple of Tensor
    """
    rows = torch.zeros(1, dtype=torch.long)
    _, gradient = value_and_gradient(objective, point[None], rows)
    for _ in range(n_steps):
        new = point - torch.linalg.lstsq(hessian(objective, point), gradient[0]).solution
        _, then = value_and_gradient(objective, new[None], rows)
        if not then.abs().max() < gradient.abs().max():
            break
        point, gradient = new, then
    return point, hessian(objective, point)
