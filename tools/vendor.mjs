// Makes the vendored libraries of the dashboard: node tools/vendor.mjs, after npm ci in ui/.
//
// Each library becomes one minified module that the import map of index.html names; nothing is bundled with our own code.
// Run again only when a version in ui/package.json changes.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const require = createRequire(join(root, "ui", "package.json"));
const { build } = require("esbuild");
const out = join(root, "src", "tunewright", "web", "static", "vendor");

const charts = `
export { init } from "echarts/core";
import { use } from "echarts/core";
import { CustomChart, LineChart, ScatterChart } from "echarts/charts";
import { DataZoomInsideComponent, GridComponent, TooltipComponent } from "echarts/components";
import { CanvasRenderer, SVGRenderer } from "echarts/renderers";
use([CustomChart, LineChart, ScatterChart, DataZoomInsideComponent, GridComponent, TooltipComponent, CanvasRenderer, SVGRenderer]);
`;
// What is left out of one module is a module of its own.
const modules = {
  "preact": [`export * from "preact";`, []],
  "hooks": [`export * from "preact/hooks";`, ["preact"]],
  "jsx-runtime": [`export * from "preact/jsx-runtime";`, ["preact"]],
  "signals-core": [`export * from "@preact/signals-core";`, []],
  "signals": [`export * from "@preact/signals";`, ["preact", "preact/hooks", "@preact/signals-core"]],
  "echarts": [charts, []],
};
const licences = { preact: "preact", "@preact/signals": "@preact/signals", "@preact/signals-core": "@preact/signals-core", echarts: "echarts", zrender: "zrender", tslib: "tslib" };

/** Leaves exactly these modules out; esbuild's own list would take what is below them along. */
function apart(names) {
  return {
    name: "apart",
    setup: (made) => made.onResolve({ filter: /.*/ }, ({ path }) => (names.includes(path) ? { path, external: true } : undefined)),
  };
}

await mkdir(out, { recursive: true });
for (const [name, [contents, external]] of Object.entries(modules)) {
  await build({
    stdin: { contents, resolveDir: join(root, "ui"), loader: "js" },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    plugins: [apart(external)],
    define: { "process.env.NODE_ENV": '"production"' },
    legalComments: "none",
    outfile: join(out, `${name}.js`),
  });
}
const texts = [];
for (const name of Object.keys(licences)) {
  const folder = join(root, "ui", "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  let words = "";
  for (const file of ["LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE"]) {
    words += await readFile(join(folder, file), "utf8").then((t) => `${t.trim()}\n\n`, () => "");
  }
  texts.push(`${name} ${version} (${license})\n${"=".repeat(60)}\n\n${words.trim()}\n`);
}
await writeFile(join(out, "LICENSES.txt"), texts.join("\n\n"));
