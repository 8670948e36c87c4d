"""docs/settings.md: its tables are what the code says, and its example can be read.

`python -m tests.test_settings_page` writes the tables anew.
"""

import re
from pathlib import Path

from l2t_ray.sweepfile import schema, settings
from l2t_ray.sweepfile.source_file import read_pretraining
from tests.support.places import ROOT

PAGE = ROOT / "docs" / "settings.md"
MARK = re.compile(r"(?<=compares -->\n).*", re.DOTALL)


def test_the_documents_tables_are_those_of_the_code(capsys):
    assert schema.main(["markdown"]) == 0
    assert MARK.search(PAGE.read_text())[0] == capsys.readouterr().out


def test_every_setting_is_there_with_its_meaning():
    text = schema.tables()
    for name in [*settings.RUN, *(name.partition(".")[2] for name in settings.EXECUTION)]:
        assert re.search(rf"^\| `{re.escape(name)}` \| .*[^| ] \|$", text, re.MULTILINE), name
    assert " | |\n" not in text


def test_the_example_of_a_source_networks_file_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```yaml\n(out:.*?)```", PAGE.read_text(), re.DOTALL)
    Path("small.yaml").write_text(text)
    assert read_pretraining(Path("small.yaml")).out == "weights/small.pt"


if __name__ == "__main__":
    PAGE.write_text(MARK.sub(lambda _: schema.tables(), PAGE.read_text()))
