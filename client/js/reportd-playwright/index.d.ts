import type { Reporter } from "@playwright/test/reporter";

declare class ReportdReporter implements Reporter {
  constructor(options?: ReportdReporter.Options);
  printsToStdio(): boolean;
}

declare namespace ReportdReporter {
  /** What is not given comes from the environment: `REPORTD_URL`, `REPORTD_TOKEN`, `REPORTD_NAME`, …, then from the CI. */
  interface Options {
    /** Address of the server; `REPORTD_URL`. Without one nothing is recorded. The token is always `REPORTD_TOKEN`. */
    url?: string;
    /** Name of the run. Runs are compared with earlier ones of the same name. */
    name?: string;
    /** Key under which parallel jobs of one build meet in one run. */
    runKey?: string;
    project?: string;
    branch?: string;
    commit?: string;
    buildUrl?: string;
    environment?: string;
    tags?: string[];
    /** Whether the screenshots of passed tests are kept, too. Default: `"all"`. */
    screenshots?: "all" | "failed";
    /** How many seconds the end of the run waits until everything is sent. Default: 30. */
    drain?: number;
    /** Folder in which the run is written down before it is sent. Default: `.reportd-spool`. */
    spool?: string;
  }
}

export = ReportdReporter;
