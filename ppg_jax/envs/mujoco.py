"""What the suites that simulate MuJoCo models share: pictures, and a quiet library.

MuJoCo is imported only inside functions, as in ``suites/``.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.suite import SuiteEnvironment

HEIGHT, WIDTH = 240, 320
"""Size of the pictures. It fits into MuJoCo's default buffer."""
BACKENDS = ("egl", "gl_context")
"""Modules of mujoco that open OpenGL: without a screen, and as ``MUJOCO_GL`` says."""


@contextmanager
def quiet_model() -> Iterator[None]:
    """Keeps away what MuJoCo writes to the screen and to MUJOCO_LOG.TXT when it makes a model."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


@contextmanager
def quiet_trace() -> Iterator[None]:
    """Keeps away the deprecation warnings that the physics gives while it is traced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing `.*` directly from", DeprecationWarning)
        warnings.filterwarnings("ignore", "Passing arguments 'a', 'a_min'", DeprecationWarning)
        yield


class DrawnByMujoco(SuiteEnvironment):
    """An environment of which MuJoCo draws pictures. Subclasses say what they look like."""

    _camera: "Camera | None" = None

    def model(self) -> Any:
        """The ``MjModel`` to draw."""
        raise NotImplementedError

    def pose(self, state: Any) -> tuple[Any, ...]:
        """Arguments of ``Camera.picture`` for a state."""
        raise NotImplementedError

    def check_drawable(self) -> None:
        """Checks that MuJoCo's renderer works.

        Raises:
          ConfigError: OpenGL is missing.
        """
        if self._camera is None:
            self._camera = Camera(self.model())

    def frame(self, state: Any) -> np.ndarray:
        """A picture of a state, uint8 ``[240, 320, 3]``."""
        self.check_drawable()
        assert self._camera is not None
        return self._camera.picture(*self.pose(state))


class Camera:
    """Draws a MuJoCo model with MuJoCo's renderer, without a screen.

    Args:
      model: the ``MjModel``.

    Raises:
      ConfigError: OpenGL is missing.
    """

    def __init__(self, model: Any) -> None:
        import mujoco

        self._model, self._data = model, mujoco.MjData(model)
        self._context = _open_gl()
        self._context.make_current()
        self._target = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._target)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._view)
        if model.ncam:  # the model's own; it follows the body where that is useful
            self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._view.fixedcamid = 0

    def picture(self, qpos: Any, mocap_pos: Any = None, mocap_quat: Any = None) -> np.ndarray:
        """A picture of a state, uint8 ``[height, width, 3]``.

        Args:
          qpos: positions of the joints.
          mocap_pos: positions of the bodies that the program moves, such as targets.
          mocap_quat: their orientations.
        """
        import mujoco

        model, data = self._model, self._data
        data.qpos[:] = np.asarray(qpos)
        if model.nmocap and mocap_pos is not None:
            data.mocap_pos[:], data.mocap_quat[:] = np.asarray(mocap_pos), np.asarray(mocap_quat)
        with quiet_model():
            mujoco.mj_fwdPosition(model, data)
        mujoco.mjv_updateScene(
            model,
            data,
            mujoco.MjvOption(),
            None,
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        self._context.make_current()
        area = mujoco.MjrRect(0, 0, WIDTH, HEIGHT)
        pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        mujoco.mjr_render(area, self._scene, self._target)
        mujoco.mjr_readPixels(pixels, None, area, self._target)
        return pixels[::-1]  # OpenGL counts from below


def _open_gl() -> Any:
    """An OpenGL context for pictures that no screen shows.

    Raises:
      ConfigError: there is none.
    """
    import importlib

    for backend in BACKENDS:
        try:
            module = importlib.import_module(f"mujoco.{backend}")
            context = module.GLContext(WIDTH, HEIGHT)
            if getattr(context, "_context", None):
                return context
        except Exception:  # a library is missing, or there is no device; each has its own errors
            continue
    raise ConfigError(
        "env: MuJoCo draws with OpenGL, which is missing; install EGL (libegl1), or OSMesa and set "
        "MUJOCO_GL=osmesa"
    )
