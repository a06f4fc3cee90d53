"""The equations of the cells, written out once more in numpy: ``(parameters, h, x) -> h``."""

import numpy as np
import scipy.linalg
from cases import MODULES


def sig(z):
    return 1 / (1 + np.exp(-z))


def softplus(z):
    return np.log(1 + np.exp(z))


def silu(z):
    return z / (1 + np.exp(-z))


def s4d(p, h, x):
    delta = softplus(p.w_delta)
    return np.exp((p.w_re + 1j * p.w_im) * delta) * h + delta * ((p.B_re + 1j * p.B_im) @ x)


def s5(p, h, x):
    """The solution of dh/dt = lambda h + B x over Delta: the exponential of an augmented matrix."""
    new = []
    for n in range(MODULES):
        lam = -np.exp(p.re_log[n]) + 1j * p.im[n]
        drive = (p.B_re[n] + 1j * p.B_im[n]) @ x
        flow = scipy.linalg.expm(np.exp(p.delta_log[n]) * np.array([[lam, drive], [0, 0]]))
        new.append(flow[0, 0] * h[n] + flow[0, 1])
    return np.array(new)


def s6(p, h, x):
    new = []
    for n in range(MODULES):
        delta = softplus(p.W_delta[n] @ x + p.b_delta[n])
        drive = (p.w_B[0] @ x) * (p.W[n] @ x)
        flow = scipy.linalg.expm(delta * np.array([[-np.exp(p.A_log[n]), drive], [0, 0]]))
        new.append(flow[0, 0] * h[n] + flow[0, 1])
    return np.array(new)


def rtu(p, h, x, f=lambda c: c):
    """As one complex rotation."""
    lam = np.exp(-np.exp(p.nu_log) + 1j * np.exp(p.theta_log))
    z = lam * (h[0] + 1j * h[1]) + np.sqrt(1 - abs(lam) ** 2) * (p.W1 @ x + 1j * (p.W2 @ x))
    return f(z.real), f(z.imag)


def block_diagonal(p, h, x):
    """As one dense matrix."""
    b = len(p.A)
    dense = np.zeros((b * MODULES, b * MODULES))
    for n in range(MODULES):
        for i in range(b):
            for j in range(b):
                dense[n * b + i, n * b + j] = p.A[i][j][n]
    drive = np.stack([w @ x for w in p.W], 1).ravel()
    return tuple((dense @ np.stack(h, 1).ravel() + drive).reshape(MODULES, b).T)


def min_gru(p, h, x):
    z = sig(p.W_z @ x + p.b_z)
    return (1 - z) * h + z * (p.W_h @ x + p.b_h)


def min_lstm(p, h, x):
    f, i = sig(p.W_f @ x + p.b_f), sig(p.W_i @ x + p.b_i)
    return f / (f + i) * h + i / (f + i) * (p.W_h @ x + p.b_h)


def hgrn(p, h, x):
    lam = 0.3 + 0.7 * sig(p.W_mu @ x + p.b_mu)
    c = silu(p.W_re @ x + p.b_re) + 1j * silu(p.W_im @ x + p.b_im)
    return lam * np.exp(1j * p.theta) * h + (1 - lam) * c


def rg_lru(p, h, x):
    r, i = sig(p.W_r @ x + p.b_r), sig(p.W_i @ x + p.b_i)
    a = sig(p.Lambda) ** (8 * r)
    return a * h + np.sqrt(1 - a**2) * (i * (p.W @ x))


def signed_gate(p, h, x):
    return np.tanh(p.W_a @ x + p.b_a) * h + p.W_v @ x + p.b_v


def complex_gate(p, h, x):
    a = sig(p.W_r @ x + p.b_r) * np.exp(1j * (p.W_phi @ x + p.b_phi))
    return a * h + (p.B_re + 1j * p.B_im) @ x + p.b_re + 1j * p.b_im


def elementwise_rnn(p, h, x):
    return np.tanh(p.W @ x + np.diag(p.w) @ h + p.b)


def elementwise_gru(p, h, x):
    r = sig(p.W_r @ x + p.w_r * h + p.b_r)
    f = sig(p.W_f @ x + p.w_f * h + p.b_f)
    n = np.tanh(p.W_n @ x + p.b_n + r * (p.w_n * h + p.b_h))
    return f * h + (1 - f) * n


def elementwise_lstm(p, h, x):
    f = sig(p.W_f @ x + p.w_f * h[0] + p.b_f)
    c = f * h[0] + (1 - f) * np.tanh(p.W_z @ x + p.w_z * h[0] + p.b_z)
    return c, sig(p.W_o @ x + p.w_o * c + p.b_o) * c


def const_gate(p, h, x):
    return 0.7 * h + 0.3 * np.tanh(p.W @ x + p.w * h)


def shared_gate(p, h, x):
    s = sig(p.w_s[0] @ x + p.b_s)
    return (1 - s) * h + s * np.tanh(p.W @ x + p.w * h)


def diag_gate(p, h, x):
    s = sig(p.W_s @ x + p.w_s * h + p.b_s)
    return (1 - s) * h + s * np.tanh(p.W @ x + p.w * h)


def lif(p, h, x, zero=False):
    fired = h > 0.5
    h = np.where(fired, 0 if zero else h - 0.5, h)
    return np.exp(-1 / np.exp(p.tau_log)) * h + p.W @ x + p.b


def adaptive_lif(p, h, x, zero=False):
    above, a = h
    fired, v = above > 0.5, above + p.beta * a
    v = np.where(fired, 0 if zero else v - 0.5, v)
    alpha, rho = np.exp(-1 / np.exp(p.tau_log)), np.exp(-1 / np.exp(p.tau_a_log))
    v, a = alpha * v + p.W @ x + p.b, rho * a + fired
    return v - p.beta * a, a


def cuba_lif(p, h, x, zero=False):
    v, i = h
    v = np.where(v > 0.5, 0 if zero else v - 0.5, v)
    a, b = np.exp(-1 / np.exp(p.tau_log)), np.exp(-1 / np.exp(p.tau_syn_log))
    i = b * i + (1 - b) * (p.W @ x + p.bias)
    return a * v + (1 - a) * i, i


def resonate_and_fire(p, h, x):
    z = h[0] + 1j * (h[1] - 0.5 * (h[1] > 0.5))
    z = np.exp(-1 / np.exp(p.tau_log) + 1j * p.omega) * z + p.W @ x + p.b
    return z.real, z.imag


EQUATIONS = {
    "S4D": s4d,
    "S5": s5,
    "RTU": rtu,
    "RTU-tanh": lambda p, h, x: rtu(p, h, x, np.tanh),
    "BlockDiagonal": block_diagonal,
    "BlockDiagonal-3": block_diagonal,
    "MinGRU": min_gru,
    "MinLSTM": min_lstm,
    "HGRN": hgrn,
    "RGLRU": rg_lru,
    "S6": s6,
    "SignedGate": signed_gate,
    "ComplexGate": complex_gate,
    "ElementwiseRNN": elementwise_rnn,
    "ElementwiseGRU": elementwise_gru,
    "ElementwiseLSTM": elementwise_lstm,
    "ConstGate": const_gate,
    "SharedGate": shared_gate,
    "DiagGate": diag_gate,
    "LIF": lif,
    "LIF-detached": lif,
    "LIF-zero": lambda p, h, x: lif(p, h, x, zero=True),
    "AdaptiveLIF": adaptive_lif,
    "AdaptiveLIF-detached": lambda p, h, x: adaptive_lif(p, h, x, zero=True),
    "CubaLIF": lambda p, h, x: cuba_lif(p, h, x, zero=True),
    "CubaLIF-detached": cuba_lif,
    "ResonateAndFire": resonate_and_fire,
    "ResonateAndFire-detached": resonate_and_fire,
}
