// Reads the page anew when the server says that something changed, and puts the parts marked data-live in place.
// Shows times in the reader's zone, and puts a button to copy it beside each text. Nothing happens while the page is hidden. Without this script the page is the same, and stays as it was loaded.
"use strict";
(() => {
  const padded = (number, width = 2) => String(number).padStart(width, "0");

  function local(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      const day = [at.getFullYear(), padded(at.getMonth() + 1), padded(at.getDate())].join("-");
      const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => padded(part)).join(":");
      time.textContent = `${day} ${clock}${"exact" in time.dataset ? "." + padded(at.getMilliseconds(), 3) : ""}`;
    }
  }

  // Only where the browser lets a page do so: on this machine, or over TLS.
  function copyable(root) {
    for (const text of navigator.clipboard ? root.querySelectorAll("pre, [data-copy]") : []) {
      const button = root.createElement("button");
      [button.type, button.className, button.textContent] = ["button", "copy", "Copy"];
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      });
      text.matches("pre") ? text.before(button) : text.after(button);
    }
  }

  local(document);
  copyable(document);
  const note = document.getElementById("zone"), zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (note && zone !== "UTC") note.textContent = `Times are those of ${zone}; point at one to see it in UTC.`;

  const parts = [...document.querySelectorAll("[data-live]")];
  if (!parts.length || !window.EventSource) return;
  let stream = null, reading = false, changed = false;

  const inUse = (part) => part.contains(document.activeElement) || part.querySelector("details[open]");

  function put(fresh) {
    local(fresh);
    copyable(fresh);
    for (const part of parts) {
      const other = fresh.getElementById(part.id);
      if (other && !inUse(part) && !other.isEqualNode(part)) part.replaceChildren(...other.childNodes);
    }
    document.title = fresh.title;
  }

  async function read() {
    changed = true;
    if (reading) return;
    reading = true;
    while (changed) {
      changed = false;
      try {
        const answer = await fetch(location.href);
        if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } catch { /* the server is away: the stream opens again when it is back */ }
    }
    reading = false;
  }

  function follow() {
    if (document.hidden) {
      stream?.close();
      stream = null;
    } else if (!stream) {
      stream = new EventSource("/live");
      stream.onmessage = read;
    }
  }

  document.addEventListener("visibilitychange", follow);
  window.addEventListener("pagehide", () => stream?.close());
  follow();
})();
