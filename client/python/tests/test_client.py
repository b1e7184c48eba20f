"""Goal: the Python client delivers each token once and in order, whatever the router does.
Method: a fake router that cuts, repeats, swaps, forgets; and, where GAGGLE_BIN names a folder with
gaggle-router and gaggle-worker and GAGGLE_MODEL one with a model, the real ones."""

import asyncio
import os
import random
import subprocess
import unittest

try:
    import pynng  # noqa: F401
except ImportError:
    raise unittest.SkipTest("skipped: pynng is not installed (pip install pynng protobuf)")

import gaggle
from fake_router import FakeRouter, free_port, token_id, token_text
from gaggle.delivery import Delivery, crc32c


class DeliveryTest(unittest.TestCase):
    def test_crc_is_castagnolis(self):
        self.assertEqual(crc32c(0, [0] * 8), 0x8A9136AA)
        self.assertEqual(crc32c(0, [0xFFFFFFFF] * 8), 0x62A8AB43)
        self.assertEqual(crc32c(crc32c(0, [1, 2]), [3]), crc32c(0, [1, 2, 3]))

    def test_random_damage_never_doubles_or_loses(self):
        dice = random.Random(5)
        for _ in range(200):
            total = dice.randrange(200)
            ids = [dice.randrange(1 << 20) for _ in range(total)]
            d, got, position = Delivery(32), [], 0
            d.connected()
            d.on_accepted()
            for _ in range(5000):
                if dice.random() < 0.05:
                    position = min(total, position + 3)  # a gap
                first = max(0, position - dice.choice([0, 0, 0, 2]))
                count = min(dice.randint(1, 9), total - first)
                skip, take, action = d.on_tokens(first, ids[first : first + count])
                got += ids[first + skip : first + skip + take]
                position = first + count
                if action is None and d.next - d.consumed and dice.random() < 0.5:
                    action = d.on_consumed(d.next - d.consumed)
                if action is None and position == total:
                    action = d.on_finish(total, crc32c(0, ids))
                if action == "finish":
                    break
                if action == "resume" or (d.resuming and dice.random() < 0.5):
                    d.on_accepted()
                    position = d.next
            self.assertEqual(got, ids)
            self.assertEqual(action, "finish")


class FakeRouterTest(unittest.TestCase):
    def check_whole(self, stream, tokens):
        index = 0
        for token in stream:
            self.assertEqual(token.index, index)
            self.assertEqual(token.id, token_id(index))
            self.assertEqual(token.text, token_text(index))
            self.assertEqual(token.logprob, -float(index))
            index += 1
        self.assertEqual(index, tokens)
        self.assertEqual(stream.finish.reason, "stop")
        self.assertEqual(stream.finish.total_tokens, tokens)

    def test_answer_arrives_whole(self):
        router = FakeRouter(tokens=500)
        with gaggle.Client(router.url) as client:
            self.check_whole(client.generate("Once", window=64), 500)
            self.assertEqual(client.query().build, "fake")
        router.close()

    def test_chaos_is_not_noticed(self):
        cuts = prior = 0
        for seed in range(4):
            router = FakeRouter(tokens=300, faults=25, seed=seed)
            with gaggle.Client(router.url) as client:
                streams = [client.generate("Once", window=64) for _ in range(3)]
                for stream in streams:
                    self.check_whole(stream, 300)
            router.close()
            cuts += router.counts["cut"]
            prior += router.counts["prior"]
        self.assertGreater(cuts, 0)
        self.assertGreater(prior, 0)

    def test_cancel_ends_early(self):
        router = FakeRouter(tokens=100000)
        with gaggle.Client(router.url) as client:
            stream = client.generate(messages=[{"role": "user", "content": "Hi"}])
            for token in stream:
                if token.index == 20:
                    stream.cancel()
            self.assertEqual(stream.finish.reason, "cancelled")
            self.assertLess(stream.finish.total_tokens, 5000)
        router.close()

    def test_refusals_are_errors_with_code_and_time(self):
        router = FakeRouter(refuse=8)
        with gaggle.Client(router.url) as client:
            with self.assertRaises(gaggle.Error) as caught:
                client.generate("Once").text()
            self.assertEqual(caught.exception.code, "RESOURCE_EXHAUSTED")
            self.assertEqual(caught.exception.retry_after_s, 0.005)
            with self.assertRaises(ValueError):
                client.generate("Once", ids=[1])
        router.close()
        router = FakeRouter(refuse_hello=16)
        with gaggle.Client(router.url) as client:
            with self.assertRaises(gaggle.Error) as caught:
                client.generate("Once").text()
            self.assertEqual(caught.exception.code, "UNAUTHENTICATED")
        router.close()

    def test_no_router_is_unavailable(self):
        with gaggle.Client("tcp://127.0.0.1:1", offline_s=0.3) as client:
            with self.assertRaises(gaggle.Error) as caught:
                client.generate("Once").text()
            self.assertEqual(caught.exception.code, "UNAVAILABLE")

    def test_async_reader(self):
        router = FakeRouter(tokens=50)

        async def read(client):
            return [token.id async for token in client.agenerate(ids=[1, 2, 3])]

        with gaggle.Client(router.url) as client:
            self.assertEqual(asyncio.run(read(client)), [token_id(i) for i in range(50)])
        router.close()


@unittest.skipUnless(
    os.environ.get("GAGGLE_BIN") and os.environ.get("GAGGLE_MODEL"),
    "skipped: GAGGLE_BIN and GAGGLE_MODEL do not name the real router, worker and model",
)
class RealRouterTest(unittest.TestCase):
    def test_real_answer(self):
        folder, model = os.environ["GAGGLE_BIN"], os.environ["GAGGLE_MODEL"]
        clients, workers = f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
        processes = [
            subprocess.Popen(
                [f"{folder}/gaggle-router", "--listen", clients, "--worker-listen", workers],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        ]
        self.assertIn(b"ready", processes[0].stdout.readline())
        processes.append(
            subprocess.Popen(
                [f"{folder}/gaggle-worker", "-m", model, "--router", workers, "--device", "cpu"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
        self.assertIn(b"ready", processes[1].stdout.readline())
        try:
            with gaggle.Client(clients) as client:
                first = client.generate("Geese fly", max_tokens=12, ignore_eos=True)
                text = first.text()
                self.assertEqual(first.finish.total_tokens, 12)
                again = client.generate("Geese fly", max_tokens=12, ignore_eos=True, temperature=0)
                self.assertTrue(text and again.text())
                self.assertEqual(len(client.query().workers), 1)
        finally:
            for process in reversed(processes):
                process.terminate()
                self.assertEqual(process.wait(20), 0)
                process.stdout.close()


if __name__ == "__main__":
    unittest.main()
