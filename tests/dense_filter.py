"""An extended Kalman filter with one covariance of everything, in numpy."""

import numpy as np


class DenseFilter:
    """Scalar updates of the whole covariance; what the groups leave out is struck after each."""

    def __init__(self, params, kinds, *, prior, forgetting, drift, drift_every):
        self.prior, self.forgetting = prior, forgetting
        self.drift, self.drift_every, self.last = drift, drift_every, 0
        group, first = [], 0
        for name in sorted(params):
            a = params[name]
            rows = a.shape[0] if a.ndim == 2 else 1
            each = a.size // rows
            if kinds[name] == "diagonal":
                rows, each = a.size, 1
            group += [first + i // each for i in range(a.size)]
            first += rows
        self.group = np.array(group)
        self.mask = self.group[:, None] == self.group
        self.P = prior * np.eye(len(group))
        self.weights = np.zeros(len(group))

    @staticmethod
    def flat(tree):
        return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])

    def step(self, H, errors, weights, noise, time):
        if time - self.last >= self.drift_every:
            before = self._mean_variances()
            self.P = self.P + self.drift * (time - self.last) * np.eye(len(self.P))
            self._scale(np.minimum(1, np.maximum(before, self.prior) / self._mean_variances()))
            self.last = time
        if (weights > 0).any():
            most = np.maximum(self.prior / self._mean_variances(), 1)
            self._scale(np.minimum(1 / self.forgetting, most))
        began = self.weights.copy()
        for i, (e, w, r) in enumerate(zip(errors, weights, noise, strict=True)):
            if w == 0:
                continue
            j = self.flat({name: a[i] for name, a in H.items()})
            e = e + j @ (self.weights - began)
            k = self.P @ j
            v = r / w + j @ k
            self.weights = self.weights - k * e / v
            self.P = (self.P - np.outer(k, k) / v) * self.mask

    def _mean_variances(self):
        """For every number that of its group."""
        mean = np.bincount(self.group, np.diag(self.P)) / np.bincount(self.group)
        return mean[self.group]

    def _scale(self, factors):
        self.P = self.P * np.sqrt(np.outer(factors, factors))
