/* The console's whole behaviour. htmx fetches HTML; this opens dialogs, keeps the selection, shows toasts, pauses pollers. */
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const every = (selector, root = document) => [...root.querySelectorAll(selector)];
  const on = (type, react) => document.addEventListener(type, react);

  // ---- dialogs: the server sends the body; we open, focus and close. Looked up each time: history may replace nodes.
  let opener = null;
  const dialog = () => one("#dialog");
  const closeDialog = () => dialog()?.open && dialog().close();

  const firstField = () => {
    const fields = every("#dialog-body form :is(input, select, textarea):not(:disabled)");
    const first = fields.find((field) => field.checkVisibility() && !field.closest("header, footer"));
    return first?.type === "radio" ? fields.find((field) => field.name === first.name && field.checked) ?? first : first;
  };
  const wanted = () =>
    one("#dialog .errors") ?? one("#dialog [autofocus]:checked") ?? one("#dialog [autofocus]");

  const showDialog = () => {
    const isIn = one("#dialog-body").contains(document.activeElement); // somebody types in it already
    if (!dialog().open && one("#dialog-body").children.length) dialog().showModal();
    (wanted() ?? (isIn ? null : firstField()))?.focus();
  };

  const forgetDialog = () => {
    one("#dialog-body").replaceChildren();
    const same = opener?.id ? document.getElementById(opener.id) : opener; // its list may have been drawn anew
    const back = same && document.contains(same) && !same.disabled ? same : one("#main");
    opener = null;
    back.focus({ preventScroll: true });
  };

  on("htmx:beforeRequest", (e) => {
    opener = e.target.closest("[data-opens-dialog]") ?? opener;
  });
  // Shown once it is settled, not as soon as it is swapped: what is typed in between would not be heard by htmx.
  on("htmx:afterSettle", (e) => e.detail.target?.id === "dialog-body" && showDialog());
  on("dialog:close", closeDialog);
  on("click", (e) => {
    if (e.target.closest("[data-close]") || (e.target.id === "dialog" && !isShownOnce())) closeDialog();
  });
  document.addEventListener("close", (e) => e.target.id === "dialog" && forgetDialog(), true); // does not bubble: capture

  // ---- what is shown once (a secret) goes only by its buttons: neither Escape nor a click beside it takes it away
  const isShownOnce = () => one("#dialog[open] [data-shown-once]") !== null;
  on("keydown", (e) => e.key === "Escape" && isShownOnce() && e.preventDefault());
  document.addEventListener("cancel", (e) => isShownOnce() && e.preventDefault(), true); // does not bubble: capture

  // ---- toasts: what a screen reader hears too
  const vanish = (note) => setTimeout(() => note.remove(), 8000);
  const toast = (text, tone = "") => {
    const note = document.createElement("p");
    note.className = `toast ${tone}`;
    note.textContent = text;
    one("#toasts").append(note);
    vanish(note);
  };
  every("#toasts > *").forEach(vanish);
  on("toast", (e) => toast(e.detail.text, e.detail.tone));

  // ---- what went wrong: said in the dialog while one is open (it hides the toasts), and what is typed there is kept
  const unsay = () => one("#dialog-said")?.remove();
  const say = (words) => {
    if (!dialog()?.open) return toast(words, "bad");
    unsay();
    const note = document.createElement("p");
    note.id = "dialog-said";
    note.className = "errors";
    note.setAttribute("role", "alert");
    note.append(words);
    (one("#dialog .body") ?? one("#dialog-body")).prepend(note);
    note.scrollIntoView({ block: "nearest" });
  };

  // ---- selection: a Set, so that it survives paging, sorting and filtering; "all matching" sends the filter instead
  const picked = new Set();
  let matching = null; // {n, query} while everything that matches the filter is meant
  const boxes = () => every('input[name="pick"][type="checkbox"]:not(:disabled)');

  const paintBoxes = () => {
    for (const box of boxes()) {
      box.checked = matching !== null || picked.has(box.value);
      box.closest("tr").toggleAttribute("data-picked", box.checked);
    }
    const all = one("[data-pick-all]");
    if (!all) return;
    const chosen = boxes().filter((box) => box.checked).length;
    all.checked = chosen > 0 && chosen === boxes().length;
    all.indeterminate = chosen > 0 && chosen < boxes().length;
  };

  const paintBulk = () => {
    const bulk = one("[data-bulk]");
    if (!bulk) return;
    const n = matching?.n ?? picked.size;
    one("[data-bulk-n]", bulk).textContent = n;
    for (const go of every("[data-bulk-go]", bulk)) go.disabled = !n;
    bulk.toggleAttribute("data-on", Boolean(n));
    const offer = one("[data-bulk-all]", bulk);
    if (offer) offer.hidden = matching !== null || !one("[data-pick-all]")?.checked;
  };

  const paint = () => {
    paintBoxes();
    paintBulk();
  };
  const forgetSelection = () => {
    picked.clear();
    matching = null;
    paint();
  };
  const pick = (box, chosen) => (chosen ? picked.add(box.value) : picked.delete(box.value));

  on("change", (e) => {
    if (e.target.matches('input[name="pick"][type="checkbox"]')) pick(e.target, e.target.checked);
    else if (e.target.matches("[data-pick-all]")) boxes().forEach((box) => pick(box, e.target.checked));
    else return;
    matching = null;
    paint();
  });
  on("click", (e) => e.target.closest("[data-bulk-clear]") && forgetSelection());
  on("selection:matching", (e) => {
    matching = e.detail;
    paint();
  });
  on("list:changed", forgetSelection);
  on("htmx:configRequest", (e) => {
    if (!e.target.closest("[data-bulk-go]")) return;
    e.detail.formData.delete("pick");
    if (matching) e.detail.formData.append("matching", matching.query);
    else picked.forEach((value) => e.detail.formData.append("pick", value));
  });
  on("htmx:afterSettle", paint);

  // ---- the agreement, once opened, is brought into view
  document.addEventListener("toggle", (e) => {
    if (e.target.open && e.target.closest(".agree")) e.target.scrollIntoView({ block: "nearest" });
  }, true); // does not bubble: capture

  // ---- pollers rest while nobody looks, and go on at once when somebody does
  on("htmx:beforeRequest", (e) => {
    if (document.hidden && e.target.matches("[data-poll]")) e.preventDefault();
  });
  on("visibilitychange", () => {
    if (!document.hidden) every("[data-poll]").forEach((poller) => htmx.trigger(poller, "resume"));
  });

  // ---- what went wrong on the way is said, never swallowed
  const failed = (status) => {
    const words = document.body.dataset;
    return { 403: words.forbidden, 404: words.gone }[status] ?? words.failed.replace("%s", status);
  };
  on("htmx:responseError", (e) => {
    const { status } = e.detail.xhr;
    const isGone = status === 404 && (e.detail.target?.id === "dialog-body" || dialog()?.contains(e.target));
    if (isGone) closeDialog();
    say(failed(status));
    if (isGone) htmx.trigger(document.body, "list:changed"); // it stood in a list that does not know yet
  });
  on("htmx:sendError", () => say(document.body.dataset.unreachable));

  // ---- a session that has ended leads to the sign-in page; but an open dialog stays, with what was typed in it
  on("htmx:beforeOnLoad", (e) => {
    if (!dialog()?.open) return;
    if (e.detail.xhr.getResponseHeader("X-Signed-Out")) {
      e.preventDefault();
      say(one("#signed-out").content.cloneNode(true));
    } else if (e.detail.xhr.status < 400 && dialog().contains(e.target)) unsay();
  });
  // Signing in, in another tab, has given out a new token: the one this page came with is no longer good.
  on("htmx:configRequest", (e) => {
    const token = document.cookie.match(/(?:^|; )farshore_csrf=([^;]+)/)?.[1];
    if (!token) return;
    e.detail.headers["X-CSRFToken"] = token;
    e.detail.formData.delete("csrfmiddlewaretoken");
  });

  // ---- narrowing the list of regions as one types
  on("input", (e) => {
    if (!e.target.matches("[data-narrows]")) return;
    const wanted = e.target.value.trim().toLowerCase();
    for (const item of every(`#${e.target.dataset.narrows} > li`))
      item.hidden = !item.textContent.toLowerCase().includes(wanted);
  });

  // ---- another region for what is shown now, which may be narrower than what the page came with
  on("click", (e) => {
    const link = e.target.closest("a[data-region]");
    if (!link) return;
    const query = new URLSearchParams(location.search);
    for (const name of ["after", "before", "page"]) query.delete(name);
    query.set("region", link.dataset.region);
    link.search = query;
  });

  // ---- a choice that shows itself at once (without script its button does it)
  on("change", (e) => e.target.matches("[data-goes]") && e.target.form.requestSubmit());

  // ---- a form that is sent once: the second click of a double click is not another order (the server counts on nobody)
  const rest = (form, isBusy) => {
    form.toggleAttribute("data-sent", isBusy);
    form.ariaBusy = isBusy ? "true" : null;
    for (const go of every("[type=submit]", form)) go.ariaDisabled = isBusy ? "true" : null;
  };
  // Before htmx hears of it: it would keep the second order until the first is done, and send it then.
  document.addEventListener("submit", (e) => {
    if (!e.target.matches("[data-once], [hx-post]")) return;
    if (e.target.matches("[data-sent]")) {
      e.preventDefault();
      e.stopPropagation();
    } else if (e.target.matches(":not([hx-post])")) rest(e.target, true);
  }, true);
  on("htmx:beforeSend", (e) => e.target.matches("form[hx-post]") && rest(e.target, true));
  on("htmx:afterRequest", (e) => {
    const isLeaving = e.detail.xhr.getResponseHeader("HX-Redirect") && !e.detail.xhr.getResponseHeader("X-Signed-Out");
    if (e.target.matches("form[hx-post]") && !isLeaving) rest(e.target, false);
  });
  addEventListener("pageshow", () => every("form[data-sent]").forEach((form) => rest(form, false)));

  // ---- another page of a list: its beginning is shown, and the keyboard stays where it was, or as near as can be
  on("htmx:afterSettle", (e) => {
    if (!e.detail.requestConfig?.elt.closest(".pager")) return;
    const rows = one("#rows");
    if (rows.getBoundingClientRect().top < 0) rows.scrollIntoView();
    if (document.activeElement === document.body) (one(".pager a") ?? one("#main")).focus({ preventScroll: true });
  });

  // ---- copying what one cannot type (without a clipboard, over plain HTTP: what is selected is copied the old way)
  const copyOut = async (source) => {
    getSelection().selectAllChildren(source);
    if (navigator.clipboard) await navigator.clipboard.writeText(source.textContent);
    else if (!document.execCommand("copy")) throw new Error("not copied");
  };
  on("click", async (e) => {
    const button = e.target.closest("[data-copies]");
    if (!button) return;
    const told = button.nextElementSibling;
    told.textContent = "";
    await copyOut(document.getElementById(button.dataset.copies)).then(
      () => told.append(button.dataset.copied),
      () => told.append(button.dataset.uncopied),
    );
  });

  // ---- a link that takes along what a list is narrowed by now (without script: what it was narrowed by when it came)
  const follow = () => {
    for (const link of every("[data-follows]")) {
      const form = document.getElementById(link.dataset.follows);
      if (form) link.search = new URLSearchParams(new FormData(form));
    }
  };
  on("htmx:afterSettle", follow);
  on("click", (e) => e.target.closest("[data-follows]") && follow());

  // ---- the restorable window: a click on a solid stretch picks the moment under the pointer; a key takes its end
  on("click", (e) => {
    const stretch = e.target.closest("a[data-begins]");
    if (!stretch || !e.detail || e.ctrlKey || e.metaKey || e.shiftKey) return;
    const box = stretch.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (e.clientX - box.left) / box.width));
    const begins = 1000 * Math.ceil(Date.parse(stretch.dataset.begins) / 1000); // the first whole second inside
    const ends = Date.parse(stretch.dataset.ends);
    const to = new URL(stretch.href.baseVal, location);
    const moment = begins + share * (ends - begins);
    to.searchParams.set("until", `${new Date(moment).toISOString().slice(0, 19)}Z`);
    e.preventDefault();
    location.assign(to);
  });

  // ---- light or dark
  on("click", (e) => {
    if (!e.target.closest("[data-theme-toggle]")) return;
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const shown = root.dataset.theme === "auto" ? system : root.dataset.theme;
    root.dataset.theme = shown === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      /* private window: the choice lasts as long as the page */
    }
  });

  paint();
  addEventListener("pageshow", () => { // back again: the browser brings ticks that this script does not know
    boxes().forEach((box) => box.checked && picked.add(box.value));
    paint();
  });
})();
