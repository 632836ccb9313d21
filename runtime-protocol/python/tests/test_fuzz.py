"""The kept corpus, each stream as it is, then two seconds of mutations of it."""

import unittest

import fuzz_frames


class Fuzz(unittest.TestCase):
    def test_kept_streams(self):
        self.assertGreater(len(fuzz_frames.corpus()), 5)
        for name, data in fuzz_frames.corpus().items():
            bytewise = [data[at : at + 1] for at in range(len(data))]
            for pieces in ([data], bytewise):
                with self.subTest(name):
                    self.assertEqual(fuzz_frames.decode(pieces), fuzz_frames.expected_frames(data))
                    requests, refusal, goodbye = fuzz_frames.read_requests(pieces)
                    self.assertEqual((requests, refusal is not None, goodbye), fuzz_frames.expected_requests(data, 1))

    def test_two_seconds(self):
        decoded, read, rounds = fuzz_frames.fuzz(2, 20260)
        self.assertGreater(min(decoded, read, rounds), 0)


if __name__ == "__main__":
    unittest.main()
