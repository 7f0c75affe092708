"""Checks that every implementation of a contract must pass, written once for all of them."""


# -- models of a composition, for BoTorch ------------------------------------------------------------------------------
def check_botorch_model(model, x, bounds, constraints) -> None:
    """Check that any BoTorch user could pick up this multi-output model.

    Args:
        model: outputs in the order of its goals; the first objective is output 0.
        x: points of the space, at least 8, ``n x d``.
        bounds: of the space, ``2 x d``.
        constraints: site and charge balance, as ``optimize_acqf`` takes inequality constraints.
    """
    import torch
    from botorch.acquisition.logei import qLogExpectedImprovement, qLogNoisyExpectedImprovement
    from botorch.acquisition.monte_carlo import qUpperConfidenceBound
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
    from botorch.acquisition.objective import GenericMCObjective
    from botorch.generation import MaxPosteriorSampling
    from botorch.optim import optimize_acqf, optimize_acqf_discrete
    from botorch.sampling.get_sampler import get_sampler

    m, d = model.num_outputs, x.shape[-1]

    # shapes, dtype, no mutation
    before = x.clone()
    for batch in ((), (3,), (2, 3)):
        points = x[:2].expand(*batch, 2, d)
        posterior = model.posterior(points)
        assert posterior.mean.shape == posterior.variance.shape == (*batch, 2, m)
        assert posterior.mean.dtype == torch.float64
        assert torch.isfinite(posterior.mean).all()
        assert (posterior.variance >= 0).all()
        assert posterior.rsample(torch.Size([4])).shape == (4, *batch, 2, m)
    assert torch.equal(x, before)

    # a batch is its single points, wherever they stand
    joint = model.posterior(x)
    for i in (0, len(x) - 1):
        single = model.posterior(x[i : i + 1])
        torch.testing.assert_close(single.mean[0], joint.mean[i], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(single.variance[0], joint.variance[i], rtol=1e-4, atol=1e-8)
    assert model.posterior(x, output_indices=[1]).mean.shape == (len(x), 1)

    # the samples have the posterior's moments, and equal candidates equal values
    sampler = get_sampler(joint, sample_shape=torch.Size([4096]), seed=0)
    samples = sampler(joint)
    spread = joint.variance.sqrt()
    assert ((samples.mean(0) - joint.mean).abs() <= 0.05 * spread + 1e-9).all()
    correction = 1 if len(samples) < 100 else 0
    torch.testing.assert_close(samples.std(0, correction=correction), spread, rtol=0.05, atol=1e-6)
    twins = x[[0, 1, 0]].unsqueeze(1)
    values = get_sampler(model.posterior(twins), sample_shape=torch.Size([64]), seed=0)(model.posterior(twins))
    torch.testing.assert_close(values[:, 0], values[:, 2])

    # gradients reach X
    tracked = x[:2].clone().requires_grad_()
    posterior = model.posterior(tracked)
    (gradient,) = torch.autograd.grad(posterior.mean.sum() + posterior.variance.sum(), tracked)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0

    # acquisition functions
    first = GenericMCObjective(lambda samples, X=None: samples[..., 0])
    best = joint.mean[:, 0].median()
    reference = joint.mean.min(0).values - joint.variance.sqrt().max(0).values
    acquisitions = {
        "qLogEI": qLogExpectedImprovement(model, best_f=best, objective=first),
        "qLogNEI": qLogNoisyExpectedImprovement(
            model, X_baseline=x[:3], objective=first, prune_baseline=True, cache_root=False
        ),
        "qUCB": qUpperConfidenceBound(model, beta=2.0, objective=first),
        "qLogNEHVI": qLogNoisyExpectedHypervolumeImprovement(
            model,
            ref_point=reference[:2],
            X_baseline=x[:3],
            objective=IdentityMCMultiOutputObjective(outcomes=[0, 1]),
            prune_baseline=True,
            cache_root=False,
        ),
    }
    for name, acquisition in acquisitions.items():
        with torch.no_grad():
            together = acquisition(x.unsqueeze(1))
            alone = acquisition(x[3:4].unsqueeze(1))
        assert together.shape == (len(x),), name
        assert torch.isfinite(together).all(), name
        torch.testing.assert_close(together[3:4], alone, rtol=1e-4, atol=1e-6, msg=name)
        assert together.std() > 0, name
        chosen, _ = optimize_acqf_discrete(acquisition, q=3, choices=x, unique=True)
        assert len(torch.unique(chosen, dim=0)) == 3, name

    assert MaxPosteriorSampling(model, objective=first, replacement=False)(x, num_samples=3).shape == (3, d)

    # the continuous optimiser inside the space
    found, _ = optimize_acqf(
        acquisitions["qUCB"],
        bounds=bounds,
        q=1,
        num_restarts=2,
        raw_samples=8,
        inequality_constraints=constraints,
        options={"maxiter": 5, "batch_limit": 2, "seed": 0},
    )
    for indices, coefficients, limit in constraints:
        assert coefficients @ found[0, indices] >= limit - 1e-6
    assert (found >= bounds[0] - 1e-9).all()
    assert (found <= bounds[1] + 1e-9).all()
