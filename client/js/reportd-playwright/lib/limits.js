// Every limit of the reporter: those of the Python client that concern it, which a test compares.
"use strict";

const KIB = 1024;
const MIB = 1024 * KIB;

module.exports = {
  // One test.
  MAX_STEPS: 10_000,
  MAX_CONSOLE: 5_000,
  MAX_FILES: 2_000,
  MAX_TEST_BYTES: 8 * MIB, // of JSON; a request to the server may have 16 MiB
  MAX_OUTPUT: 256 * KIB, // bytes of stdout and stderr
  MAX_OUTPUT_LINES: 1_000,
  MAX_TEXT: 64 * KIB, // characters of a message, an error or a stack trace
  MAX_METADATA: 48 * KIB,

  // The spool.
  COPY_BELOW: MIB, // a file given by path is copied up to this size, else hard-linked
  RESERVE: 256 * KIB, // bytes that are given back when the disk is full, so that verdicts still fit
  LOW_DISK: [200 * MIB, 100 * MIB, 50 * MIB], // free bytes below which less and less is kept

  // Groups of tests, and requests.
  GROUP_SECONDS: 2,
  GROUP_TESTS: 500,
  GROUP_FILES: 50,
  GROUP_BYTES: 4 * MIB,
  GROUP_STEPS: 10_000,
  GROUP_ENTRIES: 10_000,
  GROUP_FILE_BYTES: 200 * MIB,
  REQUESTS: 4, // under way at once
  REQUESTS_WHEN_BUSY: 2, // after 429 or 503, until GOOD_REPLIES have come
  GOOD_REPLIES: 20,
  MAX_REPLY: 32 * MIB,
  CONNECT_SECONDS: 10,
  READ_SECONDS: 60,
  FIRST_RETRY: 0.5,
  LAST_RETRY: 30,

  // The end of a run.
  DRAIN_SECONDS: 30,
  UNREACHED_SECONDS: 2, // instead, when no request has ever succeeded
};
