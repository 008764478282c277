/* Runs before the first paint, so that a chosen theme never flashes: external and blocking, as script-src 'self' asks. */
(() => {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen) document.documentElement.dataset.theme = chosen;
  } catch {
    /* storage is closed to us: the system's own scheme is shown */
  }
})();
