import { defineConfig } from "vite";

// Relative addresses, so that the built page can be hosted in any folder; no inlined assets, for the CSP.
export default defineConfig({
  base: "./",
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: false },
});
