"""Stands in for Kaggle's module of this name: secrets come from the environment, SECRET_NAME."""
import os


class UserSecretsClient:
    def get_secret(self, name):
        return os.environ["SECRET_" + name]
