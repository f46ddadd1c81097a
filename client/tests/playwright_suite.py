"""A suite of Playwright tests with every outcome, and its runner with the system's Chromium."""

import subprocess

from tests.tools import CHROMIUM, node

PAGE = (
    "data:text/html,<title>Shop</title><h1 id=t>Hello</h1><input aria-label=Name>"
    "<input type=password aria-label=Password><button data-testid=go>Go</button>"
    "<select id=s><option value=a>A<option value=b>B</select>"
)
PASSWORD = "hunter2secret"

_CONFIG = """
import { defineConfig } from '@playwright/test';
export default defineConfig({
  testDir: 'specs', outputDir: 'results', workers: 1, timeout: 60_000, expect: { timeout: 30_000 },
  metadata: { team: 'checkout' },
  use: {
    launchOptions: { executablePath: 'CHROMIUM', args: ['--no-sandbox'] },
    screenshot: 'only-on-failure', trace: 'retain-on-failure', video: 'off',
  },
  projects: [{ name: 'chromium' }, { name: 'phone', grep: /@both/ }],
});
"""

# Most tests use no browser, which takes a second to start after each failure.
SUITE = """
import { test as base, expect } from '@playwright/test';
import fs from 'fs';
const PAGE = 'PAGE_OF_SHOP';
const test = base.extend<{ broken: string, user: string }>({
  broken: [async ({}, use) => { throw new Error('no account'); await use('x'); }, { title: 'account' }],
  user: async ({}, use) => { await base.step('call of a fixture', async () => {}); await use('ann'); },
});
const owner = { type: 'owner', description: 'ann' };
const issue = { type: 'issue', description: 'https://tracker.example/1' };
test.describe('login', { tag: ['@smoke'], annotation: issue }, () => {
  test.beforeEach(async ({ page }) => { await page.goto(PAGE); });
  test('passes', { annotation: [owner, { type: 'Bug', description: 'SHOP-7' }] }, async ({ page, user }, info) => {
    process.stdout.write('one\\ntw'); console.error('\\u001b[31mred\\u001b[0m'); process.stdout.write('o\\n\\n');
    await test.step('fill the form', async () => {
      await page.getByLabel('Name').fill(user);
      await page.getByLabel('Password').fill('PASSWORD');
      await test.step('inner', async () => { await page.getByTestId('go').click(); });
    });
    await page.locator('#s').selectOption('b');
    await expect(page.locator('#t')).toHaveText('Hello');
    await expect(page).toHaveTitle(/Shop/);
    expect.soft({ a: [1, 'x'] }).toEqual({ a: [1, 'x'] });
    await test.step('attach', async step => {
      await step.attach('in step', { body: '{"a":1}', contentType: 'application/json' });
    });
    fs.writeFileSync(info.outputPath('data.csv'), 'a,b\\n1,2\\n');
    await info.attach('data', { path: info.outputPath('data.csv') });
    await info.attach('../shot', { body: await page.screenshot(), contentType: 'image/png' });
    await info.attach('_hidden', { body: 'x', contentType: 'text/plain' });
  });
  test('fails', async ({ page }) => {
    await page.getByLabel('Password').fill('PASSWORD');
    await test.step('look', async () => {
      await expect(page.getByLabel('Password'), 'the password').toHaveValue('PASSWORD!', { timeout: 200 });
    });
  });
});
test('both @both', async () => {});
test('times out', async () => { test.setTimeout(200); await new Promise(() => {}); });
test('expected failure', async () => { test.fail(true, 'known bug'); expect(1).toBe(2); });
test.fail('unexpected pass', async () => {});
test.skip('skipped', async () => {});
test('skipped inside', async () => { test.skip(true, 'not on linux'); });
test.fixme('fixme', async () => {});
test.describe('', () => {
  test.describe.configure({ retries: 1 });
  test('flaky', async ({}, info) => { expect(info.retry).toBe(1); });
});
test('soft', async () => { expect.soft(1, 'one').toBe(2); expect.soft('a').toBe('b'); });
test('fixture', async ({ broken }) => {});
test('text', async () => { throw 'just text'; });
test('step skipped', async () => { await test.step.skip('later', async () => {}); });
test('cause', async () => { throw new TypeError('outer', { cause: new Error('inner') }); });
""".replace("PAGE_OF_SHOP", PAGE).replace("PASSWORD", PASSWORD)

HOOKS = """
import { test } from '@playwright/test';
test.describe('before all', () => {
  test.beforeAll(async () => { throw new Error('no database'); });
  test('one', async () => {});
  test('two', async () => {});
});
test.describe('before each', () => {
  test.beforeEach('prepare', async () => { await test.step('inside', async () => { throw new Error('no user'); }); });
  test('one', async () => {});
});
test.describe('after each', () => {
  test.afterEach(async () => { throw new Error('cannot clean'); });
  test('one', async () => {});
});
test.describe('serial', () => {
  test.describe.configure({ mode: 'serial' });
  test('a', async () => {});
  test('b', async () => { throw new Error('b'); });
  test('c', async () => {});
});
"""


def suite(folder, **files):
    """Write a suite: `all="…"` is specs/all.spec.ts, `deep__hooks="…"` is specs/deep/hooks.spec.ts."""
    (folder / "playwright.config.ts").write_text(_CONFIG.replace("CHROMIUM", str(CHROMIUM)))
    for name, text in files.items():
        path = folder / "specs" / f"{name.replace('__', '/')}.spec.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(folder, *arguments, reporter: str = "blob,json,junit", **environment) -> subprocess.CompletedProcess:
    """Run a suite: blob-report/report.zip, report.json and junit.xml are in its folder then."""
    files = {"JSON": folder / "report.json", "JUNIT": folder / "junit.xml"}
    outputs = {f"PLAYWRIGHT_{name}_OUTPUT_FILE": str(path) for name, path in files.items()}
    environment = {**outputs, **environment}
    return node(folder, "@playwright/test/cli.js", "test", f"--reporter={reporter}", *arguments, **environment)
