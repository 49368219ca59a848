// Which colours the page has: those of the system, unless somebody chose others here.
(() => {
  const KEY = "duovec-theme";
  const root = document.documentElement;

  function show(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
  show(chosen);

  window.duovecTheme = {
    /** "light" or "dark", whichever is seen. */
    current() {
      return root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    },
    toggle() {
      const theme = this.current() === "dark" ? "light" : "dark";
      show(theme);
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // As above.
      }
      return theme;
    },
  };
})();
