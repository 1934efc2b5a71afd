/* Browsers start no Worker for pages that are opened as files, and the search of the pages runs in one. This is one in a hidden frame: it loads
 * the script that it is given, and hands messages between it and the page. Where pages come from a server the browser's own is used.
 *
 * Material's plugin offline would load such a script from elsewhere; by the name of this file it sees that it is there.
 */
class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.documentElement.append(this.frame);
    const inner = this.frame.contentDocument;
    this.ready = new Promise((resolve) => {
      const script = inner.createElement("script");
      script.src = new URL(url, location.href);
      script.onload = resolve;
      // A worker's script answers by postMessage, and what it is asked arrives as a message: from the page to the frame, and back.
      this.frame.contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inner.body.append(script);
    });
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
  }
}
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = IFrameWorker;
}
