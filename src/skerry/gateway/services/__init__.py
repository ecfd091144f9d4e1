"""The door of services: model servers and web apps, chosen for each request among their replicas."""
