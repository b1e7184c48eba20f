"""Stands in for Colab's module of this name: secrets come from the environment, SECRET_NAME."""
import os


def get(name):
    return os.environ["SECRET_" + name]
