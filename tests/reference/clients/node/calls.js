// The main calls of the npm package etcd3, before and after the leader dies; see tests/interop/test_foreign_clients.py.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const readline = require('node:readline');
const { Etcd3 } = require('etcd3');

const given = JSON.parse(process.argv[2]);

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Makes a call until it succeeds: after a leader's death calls fail for a while.
async function insist(call) {
  const end = Date.now() + 20000;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (error instanceof assert.AssertionError || Date.now() > end) throw error;
      await pause(50);
    }
  }
}

function connect() {
  return new Etcd3({
    hosts: given.endpoints.map((endpoint) => `https://${endpoint}`),
    credentials: {
      rootCertificate: fs.readFileSync(given.ca),
      certChain: fs.readFileSync(given.cert),
      privateKey: fs.readFileSync(given.key),
    },
    auth: { username: given.user, password: given.password },
    defaultCallOptions: () => ({ deadline: Date.now() + 2000 }),
  });
}

async function put(client, key, value) {
  await insist(() => client.put(key).value(value));
  assert.strictEqual(await insist(() => client.get(key).string()), value);
}

async function txn(client, key) {
  const answer = await insist(() =>
    client.if(key, 'Version', '==', 0).then(client.put(key).value('new')).else(client.get(key)).commit(),
  );
  if (!answer.succeeded) {
    assert.strictEqual(answer.responses[0].response_range.kvs[0].value.toString(), 'new');
  }
}

async function main() {
  const client = connect();
  await put(client, 'node/k', '1');
  await txn(client, 'node/t1');
  const seen = [];
  // The time limit of calls would end streams, too.
  const streaming = new Etcd3({ ...connect().options, defaultCallOptions: undefined });
  const watcher = await streaming.watch().prefix('node/w/').create();
  watcher.on('put', (kv) => seen.push(kv.value.toString()));
  await put(client, 'node/w/1', 'one');
  const lease = streaming.lease(10);
  await lease.put('node/leased').value('x');
  const lock = streaming.lock('node/lock').ttl(10);
  await lock.acquire();
  const election = streaming.election('node/election', 10);
  const campaign = election.campaign('me');
  await campaign.wait();
  console.log('ready');
  const input = readline.createInterface({ input: process.stdin });
  await new Promise((done) => input.once('line', done));
  input.close();

  await put(client, 'node/k', '2');
  await txn(client, 'node/t2');
  await put(client, 'node/w/2', 'two');
  const end = Date.now() + 20000;
  while (!seen.includes('two') && Date.now() < end) await pause(20);
  assert.strictEqual(seen.filter((value) => value === 'one').length, 1);
  assert.ok(seen.includes('two'), `events are missing: ${seen}`);
  assert.strictEqual(await insist(() => client.get('node/leased').string()), 'x');
  const { EtcdLockFailedError } = require('etcd3');
  await insist(async () => {
    const contender = client.lock('node/lock').ttl(10);
    try {
      await contender.acquire();
    } catch (error) {
      if (error instanceof EtcdLockFailedError) return;
      throw error;
    }
    assert.fail('nobody shares the lock');
  });
  await insist(() => lock.release());
  await insist(() => client.lock('node/lock').ttl(10).acquire());
  assert.strictEqual(await insist(() => election.leader()), 'me');
  await insist(() => campaign.resign());
  console.log('done');
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
