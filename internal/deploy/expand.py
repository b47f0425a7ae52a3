"""Prints template.yaml as CloudFormation gets it: expanded by the SAM translator, as JSON."""

import json
import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")  # the translator asks for one and calls nothing

from samtranslator.parser.parser import Parser  # noqa: E402
from samtranslator.translator.translator import Translator  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402

with open(sys.argv[1], encoding="utf-8") as file:
    template = yaml_parse(file)

# sam package replaces the directory by the place it uploaded the code to; the translator takes nothing else.
template["Globals"]["Function"]["CodeUri"] = "s3://bucket/code.zip"

json.dump(Translator({}, Parser()).translate(template, {}), sys.stdout)
