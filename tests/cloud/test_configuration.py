"""The configuration file in a bucket."""

import pytest
from google.cloud import storage

from pipelines.configuration import ConfigurationError, read_configuration

TEXT = '[[funnel]]\nname = "f"\n[[funnel.step]]\nname = "a"\n'


def test_it_is_read_as_a_local_one(cloud):
    storage.Client().bucket(cloud.bucket).blob("a/shop.toml").upload_from_string(TEXT)
    found = read_configuration(f"gs://{cloud.bucket}/a/shop.toml")
    assert found.text == TEXT
    assert [funnel.name for funnel in found.funnels] == ["f"]


@pytest.mark.parametrize("name", ["shop.toml", ""])
def test_one_that_is_not_there_is_said_in_a_line(cloud, name):
    with pytest.raises(ConfigurationError, match=r"cannot be read .*; try: gcloud") as raised:
        read_configuration(f"gs://{cloud.bucket}/{name}")
    assert "\n" not in str(raised.value)
