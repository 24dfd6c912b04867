// Keeps the page current: fetches it again and exchanges its main part. Without this script the page reloads
// itself. The markup comes from our own server, which escapes all that it shows.
"use strict";

const PERIOD = 5000;
const lost = document.getElementById("lost");

// Times are written in UTC by the server; people read them on their own clock.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const today = at.toDateString() === new Date().toDateString();
    time.title = time.dateTime;
    time.textContent = today ? at.toLocaleTimeString() : at.toLocaleString();
  }
}

async function refresh() {
  // Whoever is typing or selecting is not to be disturbed.
  const busy = document.activeElement?.closest("form") || !document.getSelection()?.isCollapsed;
  if (!document.hidden && !busy) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(PERIOD) });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main");
      const shown = document.querySelector("main");
      if (fresh && shown) {
        localTimes(fresh);
        if (fresh.innerHTML !== shown.innerHTML) {
          const focused = document.activeElement?.getAttribute("href");
          shown.replaceWith(fresh);
          if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
        }
        document.title = page.title;
      }
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    }
  }
  setTimeout(refresh, PERIOD);
}

localTimes(document);
setTimeout(refresh, PERIOD);
document.addEventListener("visibilitychange", () => { if (document.hidden) lost.hidden = true; });
