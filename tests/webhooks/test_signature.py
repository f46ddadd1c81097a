"""The signature of deliveries: the published example of the Standard Webhooks specification."""

from uuid import UUID

from server.hooks import WebhookConfig
from server.webhooks import signature
from tests.webhooks.conftest import SECRET

BODY = b'{"test": 2432232314}'
EXPECTED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_headers_are_those_of_the_reference_vector():
    keys = WebhookConfig(secret=SECRET).keys()
    made = signature.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY, keys)
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": EXPECTED,
    }


def test_each_secret_makes_a_signature_and_none_makes_no_header():
    keys = WebhookConfig(secret=f"whsec_{'A' * 32} {SECRET}").keys()
    made = signature.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY, keys)["webhook-signature"]
    assert len(made.split()) == 2 and made.split()[1] == EXPECTED
    assert "webhook-signature" not in signature.headers("msg_1", 1, BODY, [])


def test_an_id_has_no_dot():
    """A dot in it would let somebody else choose where the id ends and the time begins."""
    assert signature.message_id(UUID(int=1)) == "msg_00000000000000000000000000000001"
