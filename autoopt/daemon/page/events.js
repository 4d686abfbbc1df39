// The stream of changes. The browser reconnects by itself after a broken connection and tells the last id it saw, so
// that the daemon replays what was missed; where the daemon answered with an error, it gives up, and we go on here.

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 10000;
/** A page that nobody has looked at for so long lets its stream go: a browser has only six connections to a server. */
const REST = 60000;

/**
 * Opens the stream.
 *
 * Handlers: `opened()`, `lost()`, and `job(id, data)`, `live(id, data)`, `reset()` for what comes. Returns how to close it.
 */
export function listen(handlers) {
  let source = null;
  let last = null;
  let wait = FIRST_WAIT;
  let timer = null;
  let closed = false;
  let rest = null;
  let resting = false;

  function take(event, act) {
    if (event.lastEventId) last = event.lastEventId;
    let update;
    try {
      update = JSON.parse(event.data);
    } catch {
      return handlers.reset(); // a line that cannot be read: ask for everything anew
    }
    return act(update);
  }

  function open() {
    timer = null;
    source = new EventSource(last === null ? "/v1/events" : `/v1/events?after=${encodeURIComponent(last)}`);
    source.addEventListener("open", () => {
      wait = FIRST_WAIT;
      handlers.opened();
    });
    source.addEventListener("error", () => {
      if (closed || resting) return;
      handlers.lost();
      if (source.readyState !== EventSource.CLOSED || timer !== null) return;
      timer = setTimeout(open, wait);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    });
    source.addEventListener("job", (event) => take(event, (update) => handlers.job(update.job_id, update.data)));
    source.addEventListener("live", (event) => take(event, (update) => handlers.live(update.job_id, update.data)));
    source.addEventListener("reset", (event) => take(event, () => handlers.reset()));
  }

  /** A reader who comes back does not wait for the next try. */
  function hurry() {
    if (!resting && timer === null) return;
    resting = false;
    clearTimeout(timer);
    open();
  }

  function looked() {
    clearTimeout(rest);
    if (document.visibilityState === "visible") return hurry();
    rest = setTimeout(() => {
      resting = true;
      clearTimeout(timer);
      timer = null;
      source.close();
    }, REST);
  }

  document.addEventListener("visibilitychange", looked);
  addEventListener("online", hurry);
  open();
  return () => {
    closed = true;
    clearTimeout(timer);
    clearTimeout(rest);
    source.close();
    document.removeEventListener("visibilitychange", looked);
    removeEventListener("online", hurry);
  };
}
