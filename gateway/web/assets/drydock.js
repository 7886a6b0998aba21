// The page works without this file: it says times in the reader's zone, tells whether the page is live, filters the log and
// remembers the theme.
(() => {
  "use strict";
  const root = document.documentElement;
  const store = {
    get: (k) => { try { return localStorage.getItem(k); } catch { return null; } },
    set: (k, v) => { try { localStorage.setItem(k, v); } catch { /* private window: not remembered */ } },
  };

  // --- theme: as the system says, light, dark
  const themes = ["auto", "light", "dark"];
  const setTheme = (t) => {
    if (t === "auto") delete root.dataset.theme; else root.dataset.theme = t;
    const b = document.getElementById("theme");
    if (b) b.textContent = "Theme: " + t;
  };
  let theme = themes.includes(store.get("theme")) ? store.get("theme") : "auto";
  setTheme(theme); // before the first paint

  // --- times
  const two = (n) => String(n).padStart(2, "0");
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const span = (s) => {
    const a = Math.abs(s);
    if (a < 60) return "less than a minute";
    const i = units.findIndex(([n]) => a >= n);
    const [n, u] = units[i];
    const whole = Math.floor(a / n);
    if (i === 0 && whole < 3) return Math.floor(a / 3600) + " h";
    return whole + " " + u;
  };
  const date = (d) => d.getFullYear() + "-" + two(d.getMonth() + 1) + "-" + two(d.getDate());
  const clock = (d) => two(d.getHours()) + ":" + two(d.getMinutes()) + ":" + two(d.getSeconds());
  const at = (d, now) => (date(d) === date(now) ? "" : date(d) + " ") + clock(d);
  const say = (t, now) => {
    const d = new Date(t.dateTime);
    let text = at(d, now);
    if (t.dataset.t === "ago") {
      const s = (now - d) / 1000;
      text = s < 0 ? "in " + span(s) : span(s) + " ago";
      if (Math.abs(s) < 60) text = s < 0 ? "in a moment" : "just now";
    } else if (t.dataset.t === "clock") text = clock(d);
    else if (t.dataset.t === "hour") text = two(d.getHours()) + ":" + two(d.getMinutes());
    if (t.textContent !== text) t.textContent = text;
    t.title = date(d) + " " + clock(d) + " here, " + d.toISOString().slice(0, 19).replace("T", " ") + " UTC";
  };
  const times = (within) => {
    const now = new Date();
    for (const t of within.querySelectorAll("time[data-t]")) say(t, now);
  };

  // --- is the page live?
  let lost = 0;
  const liveState = (ok) => {
    const e = document.getElementById("live-state");
    if (!e) return;
    e.hidden = false;
    const text = ok ? "live" : "connection lost, trying again";
    if (e.textContent !== text) e.textContent = text;
    e.classList.toggle("off", !ok);
  };

  // --- the log of a job
  const keep = 5000;
  const log = () => document.getElementById("log");
  const filterLine = (li, text) => { li.hidden = text !== "" && !li.textContent.toLowerCase().includes(text); };
  const logChanged = () => {
    const box = log();
    if (!box) return;
    const lines = document.getElementById("log-lines");
    while (lines.childElementCount > keep) lines.firstElementChild.remove();
    const find = document.getElementById("log-find").value.toLowerCase();
    if (find !== "") for (const li of lines.children) filterLine(li, find);
    if (document.getElementById("log-follow").checked) box.scrollTop = box.scrollHeight;
  };

  // --- actions that fit the state of the job
  const fitState = () => {
    const e = document.getElementById("job-live");
    if (!e) return;
    const live = e.dataset.live === "true";
    for (const x of document.querySelectorAll(".only-live")) x.hidden = !live;
    for (const x of document.querySelectorAll(".only-ended")) x.hidden = live;
  };

  const refresh = () => { times(document); logChanged(); fitState(); };

  document.addEventListener("DOMContentLoaded", () => {
    setTheme(theme);
    const b = document.getElementById("theme");
    if (b) {
      b.hidden = false;
      b.addEventListener("click", () => {
        theme = themes[(themes.indexOf(theme) + 1) % themes.length];
        store.set("theme", theme);
        setTheme(theme);
      });
    }
    const zone = document.getElementById("zone");
    if (zone) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || "local";
    const tools = document.getElementById("log-tools");
    if (tools) {
      tools.hidden = false;
      document.getElementById("log-level").addEventListener("change", (e) => { log().dataset.level = e.target.value; logChanged(); });
      document.getElementById("log-find").addEventListener("input", () => {
        const find = document.getElementById("log-find").value.toLowerCase();
        for (const li of document.getElementById("log-lines").children) filterLine(li, find);
      });
      log().addEventListener("wheel", () => {
        const box = log();
        document.getElementById("log-follow").checked = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      }, { passive: true });
    }
    for (const c of document.querySelectorAll(".command")) {
      if (!navigator.clipboard) break;
      const copy = document.createElement("button");
      copy.type = "button";
      copy.className = "quiet";
      copy.textContent = "Copy";
      copy.addEventListener("click", async () => {
        await navigator.clipboard.writeText(c.querySelector("code").textContent);
        copy.textContent = "Copied";
      });
      c.append(" ", copy);
    }
    refresh();
    setInterval(() => times(document), 15000); // "5 min ago" grows old without news
  });

  document.addEventListener("htmx:after:swap", refresh);
  document.addEventListener("htmx:sse:after:connection", (e) => {
    const status = e.detail.connection.status;
    liveState(status === undefined || status === null || status < 400);
    lost = 0;
  });
  document.addEventListener("htmx:sse:after:message", () => liveState(true));
  document.addEventListener("htmx:sse:error", (e) => {
    liveState(false);
    if (e.detail.status === 401) location.reload(); // leads to the login and back
  });
  document.addEventListener("htmx:sse:before:connection", (e) => { if (e.detail.connection.attempt > 0 && ++lost > 0 && !document.hidden) liveState(false); });
  document.addEventListener("gone", () => location.reload());
})();
