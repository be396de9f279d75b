// Chromium under the control of a test: each line on stdin is an order in JSON, and each line on stdout its result.
"use strict";
const { chromium } = require("playwright-core");
const fs = require("fs");
const readline = require("readline");

let browser, context, page, seen;

const orders = {
  async open({ url, scheme = "light", width = 800, media = "screen", bypass = false }) {
    if (context) await context.close();
    context = await browser.newContext({
      colorScheme: scheme, viewport: { width, height: 700 }, bypassCSP: bypass, deviceScaleFactor: 0.5,
    });
    page = await context.newPage();
    await page.emulateMedia({ media, colorScheme: scheme });
    seen = { requests: [], dialogs: [], errors: [] };
    page.on("request", request => seen.requests.push(request.url()));
    page.on("dialog", dialog => { seen.dialogs.push(dialog.message()); dialog.dismiss(); });
    page.on("console", message => { if (message.type() === "error") seen.errors.push(message.text()); });
    page.on("pageerror", error => seen.errors.push(String(error)));
    const answer = await page.goto(url);
    return answer ? answer.status() : null;
  },
  seen: async () => seen,
  evaluate: async ({ code }) => page.evaluate(code),
  // Wait until a condition holds. Playwright's own wait needs `eval`, which a page's policy may refuse.
  async wait({ code }) {
    for (const begin = Date.now(); !(await page.evaluate(code)); await new Promise(next => setTimeout(next, 50))) {
      if (Date.now() - begin > 60000) throw new Error(`in vain: ${code}`);
    }
  },
  click: async ({ selector }) => { await page.click(selector); },
  // The faults that axe-core finds, each with its impact. The page has to be open without its policy.
  async axe() {
    await page.addScriptTag({ content: fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8") });
    const found = await page.evaluate(() => axe.run());
    return found.violations.map(each => `${each.impact}: ${each.id}: ${each.nodes[0].html}`);
  },
  draw: async () => (await page.screenshot({ fullPage: true, animations: "disabled" })).toString("base64"),
  // The share of the blocks of four pixels a side that differ visibly; 1 for pictures of different sizes.
  async compare({ one, two }) {
    const blank = await browser.newPage();
    const share = await blank.evaluate(async pictures => {
      const read = async data => {
        const image = new Image();
        image.src = "data:image/png;base64," + data;
        await image.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [Math.ceil(image.width / 4), Math.ceil(image.height / 4)];
        const drawing = canvas.getContext("2d");
        drawing.imageSmoothingQuality = "high";
        drawing.drawImage(image, 0, 0, canvas.width, canvas.height);
        return { size: [image.width, image.height].join(), ...canvas, data: drawing.getImageData(0, 0, canvas.width, canvas.height).data };
      };
      const [left, right] = [await read(pictures[0]), await read(pictures[1])];
      if (left.size !== right.size) return 1;
      let different = 0;
      for (let at = 0; at < left.data.length; at += 4) {
        const apart = [0, 1, 2].map(each => Math.abs(left.data[at + each] - right.data[at + each]));
        if (Math.max(...apart) > 24) different += 1;
      }
      return different / (left.data.length / 4);
    }, [one, two]);
    await blank.close();
    return share;
  },
};

(async () => {
  const [program, proxy] = process.argv.slice(2);
  browser = await chromium.launch({
    executablePath: program,
    args: [
      "--no-sandbox", "--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb",
      "--hide-scrollbars", `--proxy-server=${proxy}`, "--proxy-bypass-list=127.0.0.1",
    ],
  });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { order, ...details } = JSON.parse(line);
    let result;
    try {
      result = { value: (await orders[order](details)) ?? null };
    } catch (error) {
      result = { error: String(error) };
    }
    console.log(JSON.stringify(result));
  }
  await browser.close();
})();
