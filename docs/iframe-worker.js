// Search in a site that is opened from disk, where browsers start no worker: its script runs in a hidden frame instead.
// The name is the one by which the plugin "offline" finds that it need not load such a script from elsewhere.
if (location.protocol === "file:") {
  const load = (frame, url) => new Promise((resolve) => {
    const script = frame.document.createElement("script");
    script.onload = resolve;
    script.src = url;
    frame.document.body.append(script);
  });

  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const element = document.createElement("iframe");
      element.hidden = true;
      document.body.append(element);
      this.frame = element.contentWindow;
      this.frame.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.frame.importScripts = async (...urls) => { for (const one of urls) await load(this.frame, one); };
      this.loaded = load(this.frame, url);
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.frameElement.remove();
    }
  };
}
