from servers import postgres_server, redis, redis_server

__all__ = ["postgres_server", "redis", "redis_server"]
